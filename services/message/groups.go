package message

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// The group verbs publish the change, wait until it is stored and return the group from the store (groupchange.go). A repeat that
// finds nothing to change returns at once; a repeat that runs at the same time publishes the same event id. The user's own stays
// as of the present end of the log decide what the user may do, before anything else of the group is read, so that a user who
// is no member finds out nothing, not even by how long the answer takes.

func (s *Service) getGroup(ctx context.Context, r *millracev1.GetGroupRequest) (*millracev1.Group, error) {
	of, err := s.standing(ctx, r.GetUser(), r.GetGroupId())
	switch {
	case err != nil:
		return nil, err
	case !of.member():
		return nil, errNoGroup
	}
	_ = s.soonStored(ctx, events.Group(r.GetGroupId()))
	return s.liveGroup(ctx, r.GetGroupId())
}

// joinGroup admits anybody to an open group, and to a closed one only users who have left it by themselves.
func (s *Service) joinGroup(ctx context.Context, r *millracev1.JoinGroupRequest) (*millracev1.Group, error) {
	user := r.GetSender().GetUser()
	of, err := s.standingNow(ctx, user, r.GetGroupId())
	if err != nil {
		return nil, err
	}
	g, err := s.store.Group(ctx, r.GetGroupId())
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && (g.Dissolved != 0 || !g.Open && !of.invited()):
		return nil, errNoGroup
	case err != nil:
		return nil, err
	}
	return s.admit(ctx, r.GetSender(), &g, user, of, r.GetClientMsgId())
}

func (s *Service) addMember(ctx context.Context, r *millracev1.AddMemberRequest) (*millracev1.Group, error) {
	g, _, err := s.governed(ctx, r.GetSender().GetUser(), r.GetGroupId())
	if err != nil {
		return nil, err
	}
	of, err := s.stays(ctx, r.GetUser(), g.ID)
	if err != nil {
		return nil, err
	}
	return s.admit(ctx, r.GetSender(), &g, r.GetUser(), of, r.GetClientMsgId())
}

func (s *Service) admit(
	ctx context.Context, by *millracev1.Sender, g *store.Group, user int64, of standing, clientMsgID string,
) (*millracev1.Group, error) {
	if of.member() {
		return s.liveGroup(ctx, g.ID)
	}
	members, err := s.store.Members(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	if len(members) >= events.MaxGroupMembers {
		return nil, refuse(codes.InvalidArgument, "group %d has %d members, the most", g.ID, len(members))
	}
	return s.changeMember(ctx, events.MemberJoined, by, g, user, of, clientMsgID)
}

// leaveGroup dissolves the group when its owner leaves. It does nothing for a user who has left before.
func (s *Service) leaveGroup(ctx context.Context, r *millracev1.LeaveGroupRequest) error {
	user := r.GetSender().GetUser()
	of, err := s.standingNow(ctx, user, r.GetGroupId())
	switch {
	case err != nil:
		return err
	case len(of) == 0:
		return errNoGroup
	case !of.member():
		return s.outliveLease(ctx)
	}
	g, err := s.store.Group(ctx, r.GetGroupId())
	if err != nil {
		return err
	}
	kind := events.MemberLeft
	if g.Grants.Owner() == user {
		kind = events.GroupDissolved
	}
	_, err = s.changeMember(ctx, kind, r.GetSender(), &g, user, of, r.GetClientMsgId())
	if errors.Is(err, errNoGroup) { // it is dissolved, as it should be
		err = nil
	}
	return err
}

// dissolveGroup does nothing where the group was dissolved before.
func (s *Service) dissolveGroup(ctx context.Context, r *millracev1.DissolveGroupRequest) error {
	user := r.GetSender().GetUser()
	of, err := s.standingNow(ctx, user, r.GetGroupId())
	switch {
	case err != nil:
		return err
	case len(of) == 0:
		return errNoGroup
	}
	g, err := s.store.Group(ctx, r.GetGroupId())
	switch {
	case err != nil:
		return err
	case g.Grants.Owner() != user && of.member():
		return errNotOwner(user, g.ID)
	case g.Grants.Owner() != user:
		return errNoGroup
	case g.Dissolved == 0:
		_, err = s.changeMember(ctx, events.GroupDissolved, r.GetSender(), &g, user, of, "")
		if errors.Is(err, errNoGroup) { // it is dissolved, as it should be
			err = nil
		}
		return err
	}
	return s.outliveLease(ctx)
}

// naming checks a request that names a group, and returns its client_msg_id. It draws one if there is none.
func naming(r interface {
	GetName() string
	GetClientMsgId() string
},
) (string, error) {
	if err := checkClientMsgID(r.GetClientMsgId()); err != nil {
		return "", err
	}
	if !utf8.ValidString(r.GetName()) {
		return "", refuse(codes.InvalidArgument, "name is not UTF-8")
	}
	return cmp.Or(r.GetClientMsgId(), rand.Text()), nil
}

// renameGroup draws an id for a change without one, because a group may get a former name again.
func (s *Service) renameGroup(ctx context.Context, r *millracev1.RenameGroupRequest) (*millracev1.Group, error) {
	user := r.GetSender().GetUser()
	key, err := naming(r)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.governed(ctx, user, r.GetGroupId()); err != nil {
		return nil, err
	}
	e := &events.Event{
		Type: events.GroupRenamed, GroupID: r.GetGroupId(), Name: r.GetName(),
		EventID: events.EventID(events.GroupRenamed, strconv.FormatInt(r.GetGroupId(), 10), strconv.FormatInt(user, 10), key),
	}
	made, err := s.store.ChangeSeq(ctx, events.Group(e.GroupID), e.EventID)
	switch {
	case err != nil:
		return nil, err
	case made > 0:
		return s.liveGroup(ctx, e.GroupID)
	}
	return s.changeGroup(ctx, r.GetSender(), e)
}

// removeMember lets admins remove members, and the owner also admins.
func (s *Service) removeMember(ctx context.Context, r *millracev1.RemoveMemberRequest) (*millracev1.Group, error) {
	g, me, err := s.governed(ctx, r.GetSender().GetUser(), r.GetGroupId())
	if err != nil {
		return nil, err
	}
	of, err := s.stays(ctx, r.GetUser(), g.ID)
	if err != nil {
		return nil, err
	}
	switch role := g.Standing(r.GetUser(), of).Present(); {
	case role == events.RoleOwner && r.GetUser() == me.User:
		return nil, refuse(codes.InvalidArgument, "the owner cannot be removed: it leaves, which dissolves the group")
	case r.GetUser() == me.User:
		return nil, refuse(codes.InvalidArgument, "user %d removes itself: who wants to go leaves", me.User)
	case role.Governs() && me.Present() != events.RoleOwner:
		return nil, refuse(codes.PermissionDenied, "user %d is the owner or an admin of group %d", r.GetUser(), g.ID)
	}
	if !of.member() {
		return s.held(ctx, &events.Event{GroupID: g.ID}, 0)
	}
	return s.changeMember(ctx, events.MemberLeft, r.GetSender(), &g, r.GetUser(), of, r.GetClientMsgId())
}

// liveGroup returns the group unless it was dissolved.
func (s *Service) liveGroup(ctx context.Context, id int64) (*millracev1.Group, error) {
	g, err := s.storedGroup(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		err = errNoGroup
	}
	return g, err
}

// storedGroup is like liveGroup, but tells a group that was dissolved (errNoGroup) from one that is not stored
// ([store.ErrNotFound]).
func (s *Service) storedGroup(ctx context.Context, id int64) (*millracev1.Group, error) {
	g, err := s.store.Group(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case g.Dissolved != 0:
		return nil, errNoGroup
	}
	members, err := s.store.Members(ctx, id)
	if err != nil {
		return nil, err
	}
	answer := &millracev1.Group{
		GroupId: g.ID, Name: g.Name, Owner: g.Grants.Owner(), Members: members, Open: g.Open, Admins: g.Grants.Admins(),
		Muted: make(map[int64]int64),
	}
	now := time.Now().Unix()
	for user, until := range g.Mutes {
		switch {
		case until <= now:
		case user == 0:
			answer.MutedUntil = until
		default:
			answer.Muted[user] = until
		}
	}
	return answer, nil
}

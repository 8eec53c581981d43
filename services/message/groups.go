package message

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// The group verbs publish the change, wait until it is stored and answer from the store. A repeat that finds nothing to
// change answers at once; one that runs beside the first publishes the same event id.

// createGroup derives the id from the owner and the client_msg_id, so that a repeat finds the group that is there.
func (s *Service) createGroup(ctx context.Context, r *millracev1.CreateGroupRequest) (*millracev1.Group, error) {
	owner, key := r.GetSender().GetUser(), r.GetClientMsgId()
	switch {
	case len(key) > events.MaxClientMsgBytes || !utf8.ValidString(key):
		return nil, refuse(codes.InvalidArgument, "client_msg_id is not 1 to %d bytes of text", events.MaxClientMsgBytes)
	case !utf8.ValidString(r.GetName()):
		return nil, refuse(codes.InvalidArgument, "name is not UTF-8")
	case key == "":
		key = rand.Text()
	}
	id := events.GroupID(owner, key)
	switch g, err := s.store.Group(ctx, id); {
	case err == nil:
		if err := permit(&g, owner); err != nil {
			return nil, err
		}
		return wireGroup(&g), nil
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	members := append([]int64{owner}, r.GetMembers()...)
	slices.Sort(members)
	return s.changeGroup(ctx, r.GetSender(), &events.Event{
		Type: events.GroupCreated, EventID: events.EventID(events.GroupCreated, strconv.FormatInt(id, 10)),
		GroupID: id, User: owner, Name: r.GetName(), Members: slices.Compact(members),
	})
}

func (s *Service) getGroup(ctx context.Context, r *millracev1.GetGroupRequest) (*millracev1.Group, error) {
	g, err := s.store.Group(ctx, r.GetGroupId())
	if err != nil {
		return nil, err
	}
	if err := permit(&g, r.GetUser()); err != nil {
		return nil, err
	}
	return wireGroup(&g), nil
}

// joinGroup lets in whoever knows the id, which cannot be guessed.
func (s *Service) joinGroup(ctx context.Context, r *millracev1.JoinGroupRequest) (*millracev1.Group, error) {
	g, err := s.liveGroup(ctx, r.GetGroupId())
	if err != nil {
		return nil, err
	}
	return s.admit(ctx, r.GetSender(), &g, r.GetSender().GetUser())
}

func (s *Service) addMember(ctx context.Context, r *millracev1.AddMemberRequest) (*millracev1.Group, error) {
	g, err := s.ownedGroup(ctx, r.GetGroupId(), r.GetSender().GetUser())
	if err != nil {
		return nil, err
	}
	return s.admit(ctx, r.GetSender(), &g, r.GetUser())
}

func (s *Service) admit(
	ctx context.Context, by *millracev1.Sender, g *store.Group, user int64,
) (*millracev1.Group, error) {
	if isMember(g, user) {
		return wireGroup(g), nil
	}
	if len(g.Members) >= events.MaxGroupMembers {
		return nil, refuse(codes.InvalidArgument, "group %d has %d members, the most", g.ID, len(g.Members))
	}
	return s.changeMember(ctx, events.MemberJoined, by, g.ID, user)
}

// leaveGroup dissolves the group when its owner leaves.
func (s *Service) leaveGroup(ctx context.Context, r *millracev1.LeaveGroupRequest) error {
	g, err := s.store.Group(ctx, r.GetGroupId())
	if err != nil {
		return err
	}
	user := r.GetSender().GetUser()
	switch {
	case !isMember(&g, user):
		return s.outliveLease(ctx)
	case g.Owner == user:
		_, err = s.changeMember(ctx, events.GroupDissolved, r.GetSender(), g.ID, user)
		if codeOf(err) == codes.NotFound {
			err = nil // it is dissolved, as it should be
		}
	default:
		_, err = s.changeMember(ctx, events.MemberLeft, r.GetSender(), g.ID, user)
	}
	if err != nil {
		return err
	}
	return s.outliveLease(ctx)
}

func (s *Service) removeMember(ctx context.Context, r *millracev1.RemoveMemberRequest) (*millracev1.Group, error) {
	g, err := s.ownedGroup(ctx, r.GetGroupId(), r.GetSender().GetUser())
	if err != nil {
		return nil, err
	}
	if r.GetUser() == g.Owner {
		return nil, refuse(codes.InvalidArgument, "the owner cannot be removed: it leaves, which dissolves the group")
	}
	group := wireGroup(&g)
	if isMember(&g, r.GetUser()) {
		if group, err = s.changeMember(ctx, events.MemberLeft, r.GetSender(), g.ID, r.GetUser()); err != nil {
			return nil, err
		}
	}
	return group, s.outliveLease(ctx)
}

// outliveLease waits until no node goes by a membership read before now. A repeat waits too: the verb it repeats may have
// ended without an answer, only just.
func (s *Service) outliveLease(ctx context.Context) error {
	sleep(ctx, lease)
	return ctx.Err()
}

func (s *Service) liveGroup(ctx context.Context, id int64) (store.Group, error) {
	g, err := s.store.Group(ctx, id)
	if err == nil && g.Dissolved {
		err = refuse(codes.NotFound, "group %d is dissolved", id)
	}
	return g, err
}

func (s *Service) ownedGroup(ctx context.Context, id, user int64) (store.Group, error) {
	g, err := s.liveGroup(ctx, id)
	if err == nil && g.Owner != user {
		err = refuse(codes.PermissionDenied, "user %d does not own group %d", user, id)
	}
	return g, err
}

// changeMember derives the event's id from the last change of the user's membership, so that the same step taken twice
// at a time is one event, and a later step of the same kind is another. Whether it is needed comes from that same reading.
func (s *Service) changeMember(
	ctx context.Context, t events.Type, by *millracev1.Sender, group, user int64,
) (*millracev1.Group, error) {
	stays, err := s.store.Stays(ctx, user, group)
	if err != nil {
		return nil, err
	}
	var last int64
	member := false
	for _, stay := range stays {
		last = max(last, stay.Joined, stay.Left)
		member = member || stay.Left == 0
	}
	if member == (t == events.MemberJoined) {
		return s.storedGroup(ctx, group) // another call has made the change meanwhile
	}
	id := events.EventID(t, strconv.FormatInt(group, 10), strconv.FormatInt(user, 10),
		strconv.FormatInt(by.GetUser(), 10), strconv.FormatInt(last, 10))
	return s.changeGroup(ctx, by, &events.Event{Type: t, EventID: id, GroupID: group, User: user})
}

// changeGroup publishes the change and answers the group once it is stored.
func (s *Service) changeGroup(
	ctx context.Context, by *millracev1.Sender, e *events.Event,
) (*millracev1.Group, error) {
	e.Conversation, e.By, e.Timestamp = events.Group(e.GroupID), by.GetUser(), time.Now().Unix()
	pos, err := s.publishEvent(ctx, e, by)
	if err != nil {
		return nil, err
	}
	s.copyToGroups(ctx, e, by)
	if err := s.waitStored(ctx, map[int32]int64{pos.Partition: pos.Seq}, storedWait); err != nil {
		return nil, err
	}
	s.members.void(e.GroupID)
	return s.storedGroup(ctx, e.GroupID)
}

func (s *Service) storedGroup(ctx context.Context, id int64) (*millracev1.Group, error) {
	g, err := s.liveGroup(ctx, id)
	if err != nil {
		return nil, err
	}
	return wireGroup(&g), nil
}

// copyToGroups publishes the event on group-events too. What holds is in message-events, so a failure is only logged.
func (s *Service) copyToGroups(ctx context.Context, e *events.Event, by *millracev1.Sender) {
	msg, err := newRecord(e, by, correlation(ctx))
	if err == nil {
		err = s.bus.Publisher().Publish(events.TopicGroups, msg)
	}
	if err != nil {
		s.log.WarnContext(ctx, "copying a change of membership failed", "topic", events.TopicGroups,
			"type", string(e.Type), "group", e.GroupID, events.CorrelationHeader, correlation(ctx), "error", err)
	}
}

func wireGroup(g *store.Group) *millracev1.Group {
	return &millracev1.Group{GroupId: g.ID, Name: g.Name, Owner: g.Owner, Members: g.Members}
}

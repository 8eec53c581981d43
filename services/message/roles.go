package message

import (
	"cmp"
	"context"
	"crypto/rand"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// changeRole gives a member another role. With the role of the owner, the one who asks becomes an admin. So who asks for what
// is so already need only be an admin, or a repeat would be refused.
func (s *Service) changeRole(ctx context.Context, r *millracev1.ChangeRoleRequest) (*millracev1.Group, error) {
	by, user, role, key := r.GetSender().GetUser(), r.GetUser(), events.Role(r.GetRole()), r.GetClientMsgId()
	if err := cmp.Or(checkClientMsgID(key), role.Validate(), checkUser(user)); err != nil {
		return nil, err
	}
	g, me, err := s.membership(ctx, by, r.GetGroupId())
	if err != nil {
		return nil, err
	}
	e := &events.Event{Type: events.MemberRole, GroupID: g.ID, User: user, Role: role}
	parts := []string{strconv.FormatInt(g.ID, 10), strconv.FormatInt(user, 10), strconv.FormatInt(by, 10)}
	if key == "" {
		parts = append(parts, string(role), strconv.FormatInt(g.Grants.Latest(), 10))
	} else {
		parts = append(parts, "", key)
	}
	e.EventID = events.EventID(e.Type, parts...)
	of, err := s.stays(ctx, user, g.ID)
	if err != nil {
		return nil, err
	}
	made, err := s.store.ChangeSeq(ctx, events.Group(g.ID), e.EventID)
	present := g.Standing(user, of).Present()
	switch {
	case err != nil:
		return nil, err
	case made > 0, present == role && me.Present().Governs():
		return s.held(ctx, e, made)
	case me.Present() != events.RoleOwner:
		return nil, errNotOwner(by, g.ID)
	case user == by:
		return nil, refuse(codes.InvalidArgument, "the owner becomes an admin by making another member the owner")
	case present == "":
		return nil, errNoMember(user, g.ID)
	}
	return s.changeGroup(ctx, r.GetSender(), e)
}

// muteMember changes until when a member, or all but the owner and the admins, may not write. It draws an id for a change
// without one, because a mute may be set and ended again.
func (s *Service) muteMember(ctx context.Context, r *millracev1.MuteMemberRequest) (*millracev1.Group, error) {
	by, user, until := r.GetSender().GetUser(), r.GetUser(), r.GetUntil()
	key := cmp.Or(r.GetClientMsgId(), rand.Text())
	if err := checkClientMsgID(key); err != nil {
		return nil, err
	}
	g, _, err := s.governed(ctx, by, r.GetGroupId())
	if err != nil {
		return nil, err
	}
	if user != 0 {
		of, err := s.stays(ctx, user, g.ID)
		switch role := g.Standing(user, of).Present(); {
		case err != nil:
			return nil, err
		case role == "":
			return nil, errNoMember(user, g.ID)
		case role.Governs():
			return nil, refuse(codes.PermissionDenied, "user %d is the owner or an admin of group %d, who are never muted", user, g.ID)
		}
	}
	e := &events.Event{
		Type: events.MemberMuted, GroupID: g.ID, User: user, Until: &until,
		EventID: events.EventID(events.MemberMuted, strconv.FormatInt(g.ID, 10), strconv.FormatInt(user, 10),
			strconv.FormatInt(by, 10), key),
	}
	made, err := s.store.ChangeSeq(ctx, events.Group(g.ID), e.EventID)
	switch {
	case err != nil:
		return nil, err
	case made > 0, g.Mutes[user] == until:
		return s.held(ctx, e, made)
	}
	return s.changeGroup(ctx, r.GetSender(), e)
}

func errNoMember(user, group int64) error {
	return refuse(codes.InvalidArgument, "user %d is no member of group %d", user, group)
}

// errMuted is the error for a message or an edit by a member who is muted.
func errMuted(group, until int64) error {
	return refuse(codes.PermissionDenied, "muted in group %d until %s", group, time.Unix(until, 0).UTC().Format(time.RFC3339))
}

package message

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// outliveLease waits until every node either has seen the change that is in group-events now, or will ask for it before it
// admits a send. A repeat waits too, because the call that it repeats may just have ended without an answer.
func (s *Service) outliveLease(ctx context.Context) error {
	sleep(ctx, lease)
	return ctx.Err()
}

// changeMember publishes a change of membership. A change with a client_msg_id takes effect once, however late it is repeated.
// For a change without one, the event's id is derived from its author, and from the last change of the user's membership and of
// anybody's role. So the same change made twice at the same time is one event, and a later change of the same kind is another.
func (s *Service) changeMember(
	ctx context.Context, t events.Type, by *millracev1.Sender, g *store.Group, user int64, of standing, clientMsgID string,
) (*millracev1.Group, error) {
	if err := checkClientMsgID(clientMsgID); err != nil {
		return nil, err
	}
	parts := []string{strconv.FormatInt(g.ID, 10), strconv.FormatInt(user, 10), strconv.FormatInt(by.GetUser(), 10)}
	if clientMsgID == "" {
		parts = append(parts, strconv.FormatInt(max(of.last().Joined, of.last().Left), 10), strconv.FormatInt(g.Grants.Latest(), 10))
	} else {
		parts = append(parts, clientMsgID)
	}
	e := &events.Event{Type: t, EventID: events.EventID(t, parts...), GroupID: g.ID, User: user}
	if clientMsgID != "" {
		taken, err := s.store.HasChange(ctx, events.Group(g.ID), e.EventID)
		switch {
		case err != nil:
			return nil, err
		case taken && t == events.MemberJoined && by.GetUser() == user:
			return nil, errNoGroup // the user has left since
		case taken:
			return s.liveGroup(ctx, g.ID)
		}
	}
	return s.changeGroup(ctx, by, e)
}

// changeGroup publishes the change and returns the group once the change holds. It returns [errOvertaken] if another change came
// before it, after which it has no effect.
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
	s.members.changed(e)
	if holds, err := s.holds(ctx, e); err != nil || !holds {
		return nil, cmp.Or(err, errOvertaken)
	}
	return s.liveGroup(ctx, e.GroupID)
}

// errOvertaken is transient: a repeat is judged by what the group is now.
var errOvertaken = errors.New("another change of the group came before")

// holds reports whether the change has taken effect, or the group is as the change makes it all the same.
func (s *Service) holds(ctx context.Context, e *events.Event) (bool, error) {
	made, err := s.store.HasChange(ctx, e.Conversation, e.EventID)
	if err != nil || made {
		return made, err
	}
	of, err := s.store.Stays(ctx, e.User, e.GroupID)
	if err != nil {
		return false, err
	}
	switch e.Type {
	case events.MemberJoined:
		return standing(of).member(), nil
	case events.MemberLeft:
		return !standing(of).member(), nil
	}
	g, err := s.store.Group(ctx, e.GroupID)
	if err != nil {
		return false, err
	}
	return g.Dissolved != 0 || e.Type == events.MemberRole && g.Standing(e.User, of).Present() == e.Role, nil
}

// copyToGroups publishes the event on group-events too. The change itself is in message-events, so a failure is only logged:
// other nodes then use the rosters that they have read for up to [rosterLife].
func (s *Service) copyToGroups(ctx context.Context, e *events.Event, by *millracev1.Sender) {
	msg, err := newRecord(e, by, correlation(ctx))
	if err == nil {
		telemetry.Carry(ctx, msg)
		err = s.bus.Publisher().Publish(events.TopicGroups, msg)
	}
	if err != nil {
		s.log.WarnContext(ctx, "copying a change of membership failed", "topic", events.TopicGroups,
			"type", string(e.Type), "group", e.GroupID, events.CorrelationHeader, correlation(ctx), "error", err)
	}
}

package message

import (
	"context"
	"errors"
	"strconv"
	"time"

	"millrace/events"
	"millrace/infra/store"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// outliveLease is for a change that was made before, perhaps by a call that has just ended without an answer. It waits until
// every node either has seen what is in group-events now, or will ask for it before it admits a send.
func (s *Service) outliveLease(ctx context.Context) error {
	sleep(ctx, lease)
	return ctx.Err()
}

// copyWait is how long a change waits for the groups handler to copy it.
const copyWait = 300 * time.Millisecond

// tellNodes returns when no node admits a send any more that was admitted only before the change at the position. The nodes learn
// of it from its copy in group-events. The groups handler makes one of every change; if that handler is behind, there will be two
// copies, which have the same event id and origin.
func (s *Service) tellNodes(ctx context.Context, e *events.Event, at events.Position, by *millracev1.Sender) error {
	if !s.members.sees(ctx, e.EventID, copyWait) {
		s.copyToGroups(ctx, e, at, by)
	}
	return s.outliveLease(ctx)
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
		made, err := s.store.ChangeSeq(ctx, events.Group(g.ID), e.EventID)
		switch {
		case err != nil:
			return nil, err
		case made > 0 && t == events.MemberJoined && by.GetUser() == user:
			return nil, errNoGroup // the user has left since
		case made > 0 && t == events.MemberJoined:
			return s.liveGroup(ctx, g.ID)
		case made > 0:
			return s.repeated(ctx, by, e, made)
		}
	}
	return s.changeGroup(ctx, by, e)
}

// changeGroup publishes the change and returns the group once the change holds. It returns [errOvertaken] if another change came
// before it, after which it has no effect.
func (s *Service) changeGroup(
	ctx context.Context, by *millracev1.Sender, e *events.Event,
) (*millracev1.Group, error) {
	stamp(e, by)
	takes := takesAway(e.Type)
	if takes {
		_ = s.members.changes.catchUp(ctx) // without it the change may be copied before this node looks for copies
	}
	pos, err := s.publishEvent(ctx, e, by)
	if err != nil {
		return nil, err
	}
	if err := s.waitStored(ctx, map[int32]int64{pos.Partition: pos.Seq}, storedWait); err != nil {
		return nil, err
	}
	s.members.changed(e)
	made, err := s.store.ChangeSeq(ctx, e.Conversation, e.EventID)
	if err == nil && made == 0 {
		err = s.checkMade(ctx, e)
	}
	switch {
	case err != nil:
		return nil, err
	case !takes:
		return s.liveGroup(ctx, e.GroupID)
	case made == 0:
		pos.Seq = 0
	}
	return s.held(ctx, by, e, pos)
}

// stamp notes of a change whose it is, of which conversation, and when it was made.
func stamp(e *events.Event, by *millracev1.Sender) {
	e.Conversation, e.By, e.Timestamp = events.Group(e.GroupID), by.GetUser(), time.Now().Unix()
}

// held returns the group once no node goes by what it was before the change at the position, or before another event that has
// made it the same if the position has no seq.
func (s *Service) held(
	ctx context.Context, by *millracev1.Sender, e *events.Event, at events.Position,
) (*millracev1.Group, error) {
	var err error
	if at.Seq > 0 {
		err = s.tellNodes(ctx, e, at, by)
	} else {
		err = s.outliveLease(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.liveGroup(ctx, e.GroupID)
}

// takesAway reports whether some members may no longer send after a change of the type, or only now.
func takesAway(t events.Type) bool {
	switch t {
	case events.MemberLeft, events.GroupDissolved, events.MemberRole, events.MemberMuted:
		return true
	}
	return false
}

// errOvertaken is transient: a repeat is judged by what the group is now.
var errOvertaken = errors.New("another change of the group came before")

// checkMade returns [errOvertaken] unless another event has made the group what the change would have made it.
func (s *Service) checkMade(ctx context.Context, e *events.Event) error {
	of, err := s.store.Stays(ctx, e.User, e.GroupID)
	if err != nil {
		return err
	}
	g, err := s.store.Group(ctx, e.GroupID)
	if err != nil {
		return err
	}
	member, is := standing(of).member(), false
	switch e.Type {
	case events.MemberJoined:
		is = member
	case events.MemberLeft:
		is = !member
	case events.MemberRole:
		is = g.Standing(e.User, of).Present() == e.Role
	}
	if !is && g.Dissolved == 0 {
		return errOvertaken
	}
	return nil
}

// copyToGroups publishes a copy on group-events. A failure is only logged: other nodes then use the rosters that they have read
// until the groups handler has copied the change, at most for [rosterLife].
func (s *Service) copyToGroups(ctx context.Context, e *events.Event, at events.Position, by *millracev1.Sender) {
	msg, err := newRecord(e, by, correlation(ctx))
	if err == nil {
		telemetry.Carry(ctx, msg)
		msg.Metadata.Set(events.OriginHeader, at.String())
		err = s.bus.Publisher().Publish(events.TopicGroups, msg)
	}
	if err != nil {
		s.log.WarnContext(ctx, "copying a change of membership failed", "topic", events.TopicGroups,
			"type", string(e.Type), "group", e.GroupID, events.CorrelationHeader, correlation(ctx), "error", err)
	}
}

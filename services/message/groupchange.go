package message

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
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

// tellNodes returns when no node admits a send any more that was admitted only before the event whose record lies at the position.
// The nodes learn of it from its copy in group-events. The groups handler makes one of every change; if that handler is behind,
// there will be two copies, which are the same.
func (s *Service) tellNodes(ctx context.Context, eventID string, at events.Position) error {
	if !s.members.sees(ctx, eventID, copyWait) {
		if err := s.copyToGroups(ctx, eventID, at); err != nil {
			s.log.WarnContext(ctx, "copying a change of membership failed", "topic", events.TopicGroups,
				"at", at.String(), events.CorrelationHeader, correlation(ctx), "error", err)
		}
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
			return s.held(ctx, e, made)
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
	}
	return s.held(ctx, e, made)
}

// held returns the group once no node goes by what it was before the event had its effect at seq, or before another event has
// made it what this one would have if seq is 0. The call that has published the event may have ended without an answer and without
// telling the nodes.
func (s *Service) held(ctx context.Context, e *events.Event, seq int64) (*millracev1.Group, error) {
	var err error
	if seq > 0 {
		partition := events.Partition(events.Group(e.GroupID), s.partitions)
		err = s.tellNodes(ctx, e.EventID, events.Position{Partition: partition, Seq: seq})
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

// copyToGroups publishes a copy of the record at the position on group-events, as the groups handler would. Where that fails,
// other nodes use the rosters that they have read until the handler has copied the change, at most for [rosterLife].
func (s *Service) copyToGroups(ctx context.Context, eventID string, at events.Position) error {
	var copied *message.Message
	itself := []events.Range{{Partition: at.Partition, After: at.Seq - 1, Through: at.Seq}}
	err := s.bus.Log(events.TopicMessages).Read(ctx, itself, func(r pubsub.RawRecord) error {
		copied = message.NewMessage(eventID, r.Value)
		copied.Metadata = r.Headers.All()
		copied.Metadata.Set(pubsub.KeyHeader, string(r.Key))
		copied.Metadata.Set(events.OriginHeader, at.String())
		return nil
	})
	switch {
	case errors.Is(err, pubsub.ErrTrimmed), err == nil && copied == nil: // a late repeat: no node has a roster as old as that
		return nil
	case err != nil:
		return err
	}
	return s.bus.Publisher().Publish(events.TopicGroups, copied)
}

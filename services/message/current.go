package message

import (
	"context"
	"errors"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

// This file reads what a change is checked against: the conversation as the log has it, even if storage has not come that
// far. It reads the store, and then the records from the log that are not stored yet. So a change sees every other change
// that was answered before it came, on whichever node.

// current calls read, which reads the store, and then calls add, in order, for every record of the conversation that the
// store may not have had. It returns the position up to which it has read the log.
func (s *Service) current(
	ctx context.Context, conversation string, read func(context.Context) error, add func(*logged),
) (through int64, err error) {
	p := events.Partition(conversation, s.partitions)
	ends, err := s.ends.get(ctx)
	if err != nil {
		return 0, err
	}
	var stored map[int32]int64
	err = s.breaker.call(ctx, func(ctx context.Context) error {
		if stored, err = s.stored.get(ctx); err != nil {
			return err
		}
		return read(ctx)
	})
	if err != nil {
		return 0, err
	}
	missing := events.Range{Partition: p, After: stored[p], Through: ends[p]}
	return ends[p], s.visit(ctx, conversation, missing, add)
}

// visit calls add for every record of the conversation in the range, in order.
func (s *Service) visit(ctx context.Context, conversation string, within events.Range, add func(*logged)) error {
	trimmed, err := s.tail.read(ctx, []events.Range{within}, true, func(r *logged) error {
		if r.ConversationKey() == conversation {
			add(r)
		}
		return nil
	})
	if err == nil && len(trimmed) > 0 {
		err = errNotStored // the log has lost the record before it was stored
	}
	if err != nil {
		return fmt.Errorf("records of %s after %d: %w", conversation, within.After, err)
	}
	return nil
}

// messageNow is a message as the log has it.
type messageNow struct {
	store.StoredMessage
	repeated bool  // the change was made already
	through  int64 // the position up to which the log was read
}

// messageNow returns the message as the log has it now, or [store.ErrNotFound], and whether the event with that id has
// already changed it. Behind the beginning of an open transaction the log does not show what was accepted, so while one is open
// in the partition nobody knows that there is no such message. If one was open and has ended meanwhile, the second look shows it.
func (s *Service) messageNow(ctx context.Context, conversation, id, eventID string) (messageNow, error) {
	m, err := s.lookUp(ctx, conversation, id, eventID)
	if !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	bounds, err := s.bounds.get(ctx)
	if err != nil {
		return m, err
	}
	if b := bounds[events.Partition(conversation, s.partitions)]; b.Stable < b.Written {
		return m, fmt.Errorf("message %s, behind a transaction: %w", id, errNotStored)
	}
	return s.lookUp(ctx, conversation, id, eventID)
}

func (s *Service) lookUp(ctx context.Context, conversation, id, eventID string) (messageNow, error) {
	var m messageNow
	var found bool
	through, err := s.current(ctx, conversation, func(ctx context.Context) (err error) {
		if m.StoredMessage, err = s.store.Message(ctx, conversation, id); err != nil {
			return unlessNotFound(err)
		}
		found = true
		seq, err := s.store.ChangeSeq(ctx, conversation, eventID)
		m.repeated = seq > 0
		return err
	}, func(r *logged) {
		switch {
		case r.Type == events.NewMessage && r.Message.MessageID == id && !found:
			m.StoredMessage, found = store.StoredMessage{Message: *r.Message, Seq: r.Seq}, true
		case !found || r.MessageID != id:
		case r.Type == events.MessageEdited && r.By == m.From && !m.Recalled:
			m.repeated = m.repeated || r.EventID == eventID
			m.Extra = r.Extra
		case r.Type == events.MessageRecalled:
			m.Recalled = true
		}
	})
	if err == nil && !found {
		err = store.ErrNotFound
	}
	m.through = through
	return m, err
}

// recalledBetween reports whether somebody has recalled the message at a position after one and before another.
func (s *Service) recalledBetween(ctx context.Context, m *messageNow, after, before int64) (bool, error) {
	recalled := false
	between := events.Range{
		Partition: events.Partition(m.Conversation, s.partitions), After: after, Through: before - 1,
	}
	err := s.visit(ctx, m.Conversation, between, func(r *logged) {
		recalled = recalled || r.Type == events.MessageRecalled && r.MessageID == m.MessageID
	})
	return recalled, err
}

// readNow says how far a user has read a conversation.
type readNow struct {
	last int64 // seq of the conversation's last message; 0: there is none
	mark int64 // up to where the user has read
}

// readNow returns how far the user has read the conversation, as the log has it now.
func (s *Service) readNow(ctx context.Context, user int64, conversation string) (readNow, error) {
	var now readNow
	_, err := s.current(ctx, conversation, func(ctx context.Context) (err error) {
		if now.mark, err = s.store.ReadMark(ctx, user, conversation); err != nil {
			return err
		}
		newest, _, err := s.store.History(ctx, conversation, store.Page{Newest: true, Limit: 1})
		if len(newest) > 0 {
			now.last = newest[0].Seq
		}
		return err
	}, func(r *logged) {
		switch {
		case r.Type == events.NewMessage:
			now.last = max(now.last, r.Seq)
		case r.Type == events.MessageRead && r.User == user:
			now.mark = max(now.mark, min(r.MessageSeq, now.last))
		}
	})
	return now, err
}

// unlessNotFound returns nil for [store.ErrNotFound], which is no failure of the store.
func unlessNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

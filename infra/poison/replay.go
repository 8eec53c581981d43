package poison

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Replayed counts what a replay published.
type Replayed struct {
	// ToHandlers went to the handler that had poisoned it, at its original position.
	ToHandlers int
	// Changes are edits and recalls of messages among them, which went after them.
	Changes int
	// Unknown are messages among them of which the log no longer has all edits and recalls.
	Unknown int
	// Home was misplaced and went to its partition as a new record for all handlers.
	Home int
	// Unplaced was misplaced and has no conversation to be sent to. It stays in the queue.
	Unplaced int
}

// Replay publishes the selected entries to the topic again and marks them as replayed, in their order, with the pause
// before each but the first. A record that was misplaced had no valid position for any handler: it is sent home once for
// all the entries that handlers made of it. An entry is marked after it was published, so one that a crash or a failing
// broker leaves in between is replayed again: at an original position that changes nothing, and one sent home is
// recognised as a repeat by its id if its producer gave it one. Two replays at once may do the same.
func (q *Queue) Replay(ctx context.Context, entries []*Entry, filter Filter, pause time.Duration) (Replayed, error) {
	filter.Replayed = false
	var done Replayed
	first := true
	for _, e := range filter.Select(entries) {
		if e.Replayed { // sent home with one before
			continue
		}
		if !first && pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		if err := ctx.Err(); err != nil {
			return done, err
		}
		first = false
		if err := q.replay(ctx, e, entries, &done); err != nil {
			return done, fmt.Errorf("replay %s: %w", e.ID, err)
		}
	}
	return done, nil
}

// Discard marks the selected entries as replayed although nobody has them handled, and answers how many.
func (q *Queue) Discard(ctx context.Context, entries []*Entry, filter Filter) (int, error) {
	filter.Replayed = false
	selected := filter.Select(entries)
	for i, e := range selected {
		err := ctx.Err()
		if err == nil {
			err = q.mark(e)
		}
		if err != nil {
			return i, fmt.Errorf("discard %s: %w", e.ID, err)
		}
	}
	return len(selected), nil
}

func (q *Queue) replay(ctx context.Context, e *Entry, all []*Entry, done *Replayed) error {
	if !e.misplaced() {
		if e.Handler == "" || e.Position == "" {
			return errors.New("the entry does not say for whom it is and where it was")
		}
		at, err := q.publish(e, e.home(), e.replayHeaders())
		if err != nil {
			return err
		}
		if err := q.followUp(ctx, e, at, done); err != nil {
			return err
		}
		done.ToHandlers++
		return q.mark(e)
	}
	var siblings []*Entry
	sent := false
	for _, other := range all {
		if other.misplaced() && other.Position == e.Position {
			siblings, sent = append(siblings, other), sent || other.Replayed
		}
	}
	if !sent { // else an earlier replay has ended before it marked them all
		conversation := e.conversation()
		if conversation == "" {
			done.Unplaced++
			return nil
		}
		if _, err := q.publish(e, conversation, nil); err != nil {
			return err
		}
		done.Home++
	}
	for _, other := range siblings {
		if err := q.mark(other); err != nil {
			return err
		}
	}
	return nil
}

// publish sends the record with the headers that it had and more, and answers where it is.
func (q *Queue) publish(e *Entry, key string, headers map[string]string) (events.Position, error) {
	msg := message.NewMessage("", e.Payload)
	for name, value := range e.Metadata {
		if !strings.HasPrefix(name, "poison_") && name != pubsub.KeyHeader {
			msg.Metadata.Set(name, value)
		}
	}
	for name, value := range headers {
		msg.Metadata.Set(name, value)
	}
	if key != "" {
		msg.Metadata.Set(pubsub.KeyHeader, key)
	}
	if err := q.bus.Publisher().Publish(q.topic, msg); err != nil {
		return events.Position{}, err
	}
	return q.bus.Position(msg)
}

// mark notes that the entry was replayed, here and in the queue.
func (q *Queue) mark(e *Entry) error {
	if e.Replayed {
		return nil
	}
	msg := message.NewMessage("", nil)
	msg.Metadata.Set(ReplayedHeader, e.ID)
	if err := q.bus.Publisher().Publish(events.PoisonTopic(q.topic), msg); err != nil {
		return fmt.Errorf("mark as replayed: %w", err)
	}
	e.Replayed = true
	return nil
}

// home is the key that brings the record to its conversation's partition, so that the handler gets it between, and not
// beside, other records of the conversation; without a conversation, the key that it had.
func (e *Entry) home() string {
	if conversation := e.conversation(); conversation != "" {
		return conversation
	}
	return e.Key
}

// conversation is empty if it cannot be found out.
func (e *Entry) conversation() string {
	pos, err := events.ParsePosition(e.Position)
	if err != nil {
		return ""
	}
	event, err := events.Decode(e.Topic, pos, e.Payload)
	if err != nil {
		return ""
	}
	return event.ConversationKey()
}

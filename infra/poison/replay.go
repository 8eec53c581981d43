package poison

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
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
	// Gone are the ids of entries that hold only the first bytes, and of which the log no longer has the original. They stay
	// in the queue.
	Gone []string
	// Refused are the ids of entries for handlers that cannot do a replay, by handler. They stay in the queue.
	Refused map[string][]string
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
		if e.Replayed { // sent home, or followed its message, with one before
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
		if err := q.replay(ctx, e, entries, filter.NoReplay, &done); err != nil {
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

func (q *Queue) replay(ctx context.Context, e *Entry, all []*Entry, noReplay map[string]string, done *Replayed) error {
	value, err := q.Value(ctx, e)
	switch {
	case errors.Is(err, pubsub.ErrTrimmed):
		done.Gone = append(done.Gone, e.ID)
		return nil
	case err != nil:
		return err
	}
	if _, refuses := noReplay[e.Handler]; refuses && !e.misplaced() {
		if done.Refused == nil {
			done.Refused = make(map[string][]string)
		}
		done.Refused[e.Handler] = append(done.Refused[e.Handler], e.ID)
		return nil
	}
	if !e.misplaced() {
		at, err := q.publishReplay(e, value)
		if err != nil {
			return err
		}
		if err := q.followUp(ctx, e, value, at, all, done); err != nil {
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
		conversation := e.conversation(value)
		if conversation == "" {
			done.Unplaced++
			return nil
		}
		if _, err := q.publish(e, value, conversation, nil); err != nil {
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

// publishReplay publishes the entry's record for the handler that could not handle it, and returns where it is. What does
// not fit into the queue does not fit into a replay either: the handler then takes the value from the original's place.
func (q *Queue) publishReplay(e *Entry, value []byte) (events.Position, error) {
	original, err := events.ParsePosition(e.Position)
	if e.Handler == "" || err != nil {
		return events.Position{}, errors.New("the entry does not say for whom it is and where it was")
	}
	headers := map[string]string{router.ReplayHandlerHeader: e.Handler, router.ReplayPositionHeader: e.Position}
	if e.ValueBytes > 0 {
		headers[router.ReplayValueBytesHeader] = strconv.Itoa(e.ValueBytes)
	}
	return q.publish(e, e.Payload, q.home(e, value, original.Partition), headers)
}

// publish sends the value with the headers that the record had and more, and returns where it is.
func (q *Queue) publish(e *Entry, value []byte, key string, headers map[string]string) (events.Position, error) {
	msg := message.NewMessage("", value)
	router.CopyHeaders(msg.Metadata, e.Metadata)
	for name, value := range headers {
		msg.Metadata.Set(name, value)
	}
	msg.Metadata.Set(pubsub.KeyHeader, key)
	if err := q.bus.Publisher().Publish(q.topic, msg); err != nil {
		return events.Position{}, err
	}
	return q.bus.Position(msg)
}

// Value is the record's value. What the queue does not hold is read from the topic; [pubsub.ErrTrimmed] says that retention has
// removed it there.
func (q *Queue) Value(ctx context.Context, e *Entry) ([]byte, error) {
	if e.ValueBytes == 0 {
		return e.Payload, nil
	}
	at, err := events.ParsePosition(e.Position)
	if err != nil {
		return nil, fmt.Errorf("original of %s: %w", e.ID, err)
	}
	var value []byte
	here := []events.Range{{Partition: at.Partition, After: at.Seq - 1, Through: at.Seq}}
	err = q.bus.Log(q.topic).Read(ctx, here, func(r pubsub.RawRecord) error {
		value = r.Value
		return nil
	})
	if err == nil && (len(value) != e.ValueBytes || !bytes.HasPrefix(value, e.Payload)) {
		err = fmt.Errorf("another one lies there, since the topic was made anew: %w", pubsub.ErrTrimmed)
	}
	if err != nil {
		return nil, fmt.Errorf("original at %s, of which the queue holds the first %d of %d bytes: %w", at, len(e.Payload), e.ValueBytes, err)
	}
	return value, nil
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

// home is the key that brings a replay into the partition where its original was, behind which alone the handler may take
// it: the conversation's, so that other records of it come in between and not beside, or the record's own, or any.
func (q *Queue) home(e *Entry, value []byte, partition int32) string {
	partitions := q.bus.Log(q.topic).Partitions()
	if partitions < 1 {
		return e.Key // publishing will say what is wrong
	}
	for _, key := range []string{e.conversation(value), e.Key} {
		if key != "" && events.Partition(key, partitions) == partition {
			return key
		}
	}
	for i := 0; ; i++ {
		if key := "replay-" + strconv.Itoa(i); events.Partition(key, partitions) == partition%partitions {
			return key
		}
	}
}

// conversation is empty if it cannot be found out.
func (e *Entry) conversation(value []byte) string {
	pos, err := events.ParsePosition(e.Position)
	if err != nil {
		return ""
	}
	event, err := events.Decode(e.Topic, pos, value)
	if err != nil {
		return ""
	}
	return event.ConversationKey()
}

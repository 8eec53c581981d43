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

// Replayed counts what a replay has published, and lists what it could not.
type Replayed struct {
	// ToHandlers is how many records went to the handler that could not handle them, at their original position.
	ToHandlers int
	// Changes is how many edits and recalls of the replayed messages went after them.
	Changes int
	// Unknown is for how many replayed messages the log no longer has all edits and recalls.
	Unknown int
	// Home is how many misplaced records went to their right partition, as new records for all handlers.
	Home int
	// Unplaced is how many misplaced records name no conversation, so they have no right partition. They stay in the queue.
	Unplaced int
	// Gone lists the ids of entries that hold only the first bytes and whose original the log no longer has. They stay in the
	// queue.
	Gone []string
	// Refused lists, by handler, the ids of entries for handlers that cannot handle a replay. They stay in the queue.
	Refused map[string][]string
}

// Replay publishes the selected entries to the topic again, in their order and with the pause before each but the first, and
// marks them as replayed. A misplaced record had no valid position for any handler, so it is published once as a new record
// for all handlers, whichever handlers have made entries of it. An entry is marked after it was published. If the process or
// the broker fails in between, the entry is replayed again later. At an original position that changes nothing; a misplaced
// record that is published again is recognised by its id if its producer gave it one. The same may happen when two replays
// run at once.
func (q *Queue) Replay(ctx context.Context, entries []*Entry, filter Filter, pause time.Duration) (Replayed, error) {
	filter.Replayed = false
	var done Replayed
	first := true
	for _, e := range filter.Select(entries) {
		if e.Replayed { // it was replayed together with an earlier one
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

// Discard marks the selected entries as replayed without replaying them, and returns how many.
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
	if !sent { // if it was sent, an earlier replay has ended before it marked all of them
		key := e.ownKey(value)
		if key == "" {
			done.Unplaced++
			return nil
		}
		if _, err := q.publish(e, value, key, nil); err != nil {
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

// publishReplay publishes the entry's record for the handler that could not handle it, and returns the position of the
// replay. A value that does not fit into the queue does not fit into a replay either: the router then reads it from the
// original's place.
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

// publish publishes the value with the record's own headers and the additional ones, and returns the position.
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

// Value returns the record's value. If the queue holds only the first bytes, Value reads the original from the topic and
// returns [pubsub.ErrTrimmed] if retention has removed it.
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

// mark marks the entry as replayed, in memory and in the queue.
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

// home returns a key that brings a replay into the partition of its original, because the router refuses it elsewhere. It is
// the conversation's key if that fits, which keeps the order with other records of the conversation, else the record's own
// key, else any.
func (q *Queue) home(e *Entry, value []byte, partition int32) string {
	partitions := q.bus.Log(q.topic).Partitions()
	if partitions < 1 {
		return e.Key // publishing will return the error
	}
	for _, key := range []string{e.ownKey(value), e.Key} {
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

// ownKey returns the key that the record should have, or an empty string if that cannot be found out.
func (e *Entry) ownKey(value []byte) string {
	pos, err := events.ParsePosition(e.Position)
	if err != nil {
		return ""
	}
	event, err := events.Decode(e.Topic, pos, value)
	if err != nil {
		return ""
	}
	return event.Key()
}

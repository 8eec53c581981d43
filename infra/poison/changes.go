package poison

import (
	"context"
	"errors"
	"fmt"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
)

// followUp makes the handler that a message was replayed for handle the message's edits and recalls again, if they lie before
// the replay. The handler skipped them while it did not have the message; without them a recalled message would stay.
// followUp reads the part of the partition between the message and its replay. To the handler, a change that comes again is a
// redelivery. If the handler refused such a change because it lacked the message, the entry of that change is replayed with
// it.
func (q *Queue) followUp(
	ctx context.Context, e *Entry, value []byte, replay events.Position, all []*Entry, done *Replayed,
) error {
	at, err := events.ParsePosition(e.Position)
	if err != nil || at.Partition != replay.Partition {
		return nil //nolint:nilerr // a record without a place in its conversation has no changes behind it
	}
	topic, original, err := events.Original(e.Topic, at, e.Metadata)
	if err != nil {
		return nil //nolint:nilerr // if the handler refuses it, it goes into the queue again
	}
	event, err := events.Decode(topic, original, value)
	if err != nil || event.Type != events.NewMessage {
		return nil //nolint:nilerr // if the handler refuses it, it goes into the queue again
	}
	changes, err := q.changesOf(ctx, event.Message.MessageID, at, replay)
	switch {
	case errors.Is(err, pubsub.ErrTrimmed):
		done.Unknown++
		return nil
	case err != nil:
		return fmt.Errorf("edits and recalls: %w", err)
	}
	for _, c := range changes {
		c.Handler = e.Handler
		if _, err := q.publishReplay(&c, value); err != nil {
			return err
		}
		done.Changes++
		for _, other := range all {
			if other.Handler == c.Handler && other.Position == c.Position && !other.misplaced() {
				if err := q.mark(other); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// maxSearched is for how many messages a queue remembers the changes.
const maxSearched = 1_000

// searched holds the changes of a message up to a position of the log. A message that stays stuck is replayed every minute,
// and more and more records follow it, so each of these is read only once.
type searched struct {
	through int64
	changes []Entry
}

// changesOf returns the edits and recalls of the message at the position `at` that lie before its replay.
func (q *Queue) changesOf(ctx context.Context, messageID string, at, replay events.Position) ([]Entry, error) {
	found, ok := q.searched.Get(at)
	if !ok {
		found = searched{through: at.Seq}
	}
	between := []events.Range{{Partition: at.Partition, After: found.through, Through: replay.Seq - 1}}
	err := q.bus.Log(q.topic).Read(ctx, between, func(r pubsub.RawRecord) error {
		topic, original, err := events.Original(q.topic, r.Position, r.Headers)
		if err != nil {
			return nil //nolint:nilerr // it concerns no message
		}
		change, err := events.Decode(topic, original, r.Value)
		if err != nil || r.Replay || change.MessageID != messageID ||
			change.Type != events.MessageEdited && change.Type != events.MessageRecalled {
			return nil //nolint:nilerr // it concerns other messages
		}
		entry := Entry{Topic: q.topic, Position: r.Position.String(), Metadata: r.Headers.All(), Key: string(r.Key)}
		entry.Payload, entry.ValueBytes = router.CutValue(r.Value)
		found.changes = append(found.changes, entry)
		return nil
	})
	if err != nil {
		return nil, err
	}
	found.through = replay.Seq - 1
	q.searched.Add(at, found)
	return found.changes, nil
}

package poison

import (
	"context"
	"errors"
	"fmt"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
)

// followUp has the handler that a message was replayed for take its edits and recalls again that lie before the replay:
// it passed them by when it did not have the message, and else would leave a recalled message standing. It reads the part
// of the partition between the two. To the handler a change taken again is a redelivery.
// Entries of the handler for those same changes, which it refused without the message, are replayed with that.
func (q *Queue) followUp(
	ctx context.Context, e *Entry, value []byte, replay events.Position, all []*Entry, done *Replayed,
) error {
	at, err := events.ParsePosition(e.Position)
	if err != nil || at.Partition != replay.Partition {
		return nil //nolint:nilerr // a record without a place in its conversation has nothing behind it there
	}
	event, err := events.Decode(e.Topic, at, value)
	if err != nil || event.Type != events.NewMessage {
		return nil //nolint:nilerr // what the handler says of it goes into the queue again
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

// maxSearched is how many messages a queue remembers the changes of.
const maxSearched = 1_000

// searched are the changes of a message up to a position of the log. A message that goes on being stuck is replayed every
// minute, and what lies behind it grows: it is read once.
type searched struct {
	through int64
	changes []Entry
}

// changesOf returns the edits and recalls of the message at the position that lie before its replay.
func (q *Queue) changesOf(ctx context.Context, messageID string, at, replay events.Position) ([]Entry, error) {
	found, ok := q.searched.Get(at)
	if !ok {
		found = searched{through: at.Seq}
	}
	between := []events.Range{{Partition: at.Partition, After: found.through, Through: replay.Seq - 1}}
	err := q.bus.Log(q.topic).Read(ctx, between, func(r pubsub.RawRecord) error {
		change, err := events.Decode(q.topic, r.Position, r.Value)
		if err != nil || r.Replay || change.MessageID != messageID ||
			change.Type != events.MessageEdited && change.Type != events.MessageRecalled {
			return nil //nolint:nilerr // others' business
		}
		entry := Entry{Topic: q.topic, Position: r.Position.String(), Metadata: r.Headers.Metadata(), Key: string(r.Key)}
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

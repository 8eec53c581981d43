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
func (q *Queue) followUp(ctx context.Context, e *Entry, value []byte, replay events.Position, done *Replayed) error {
	at, err := events.ParsePosition(e.Position)
	if err != nil || at.Partition != replay.Partition {
		return nil //nolint:nilerr // a record without a place in its conversation has nothing behind it there
	}
	event, err := events.Decode(e.Topic, at, value)
	if err != nil || event.Type != events.NewMessage {
		return nil //nolint:nilerr // what the handler says of it goes into the queue again
	}
	// The bus may count from another epoch than who poisoned the record did; the offset is the same.
	here := events.EpochStart(replay.Seq) - events.EpochStart(at.Seq)
	between := []events.Range{{Partition: at.Partition, After: at.Seq + here, Through: replay.Seq - 1}}
	var changes []*Entry
	err = q.bus.Log(q.topic).Read(ctx, between, func(r pubsub.RawRecord) error {
		behind, err := events.Decode(q.topic, r.Position, r.Value)
		if err != nil || r.Replay || behind.MessageID != event.Message.MessageID ||
			behind.Type != events.MessageEdited && behind.Type != events.MessageRecalled {
			return nil //nolint:nilerr // others' business
		}
		origin := events.Position{Partition: r.Partition, Seq: r.Seq - here}
		change := &Entry{Topic: q.topic, Position: origin.String(), Handler: e.Handler, Metadata: r.Metadata(), Key: string(r.Key)}
		change.Payload, change.ValueBytes = router.CutValue(r.Value)
		changes = append(changes, change)
		return nil
	})
	switch {
	case errors.Is(err, pubsub.ErrTrimmed):
		done.Unknown++
		return nil
	case err != nil:
		return fmt.Errorf("edits and recalls: %w", err)
	}
	for _, c := range changes {
		if _, err := q.publishReplay(c, value); err != nil {
			return err
		}
		done.Changes++
	}
	return nil
}

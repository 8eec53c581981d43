package memory

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Log reads a topic.
type Log struct {
	bus   *Bus
	topic string
}

var _ pubsub.Log = (*Log)(nil)

// Log returns a reader of the topic.
func (b *Bus) Log(topic string) pubsub.Log { return &Log{b, topic} }

// Partitions returns how many partitions every topic has.
func (l *Log) Partitions() int32 { return l.bus.config.Partitions }

// End returns the position of the last record of every partition, or the beginning of the epoch if it has none.
func (l *Log) End(ctx context.Context) (map[int32]int64, error) {
	end := make(map[int32]int64)
	for p, partition := range l.bus.topic(l.topic) {
		first, next := partition.bounds()
		if first == next {
			next = 0
		}
		end[int32(p)] = l.bus.position(int32(p), next-1).Seq
	}
	return end, ctx.Err()
}

// Bounds returns the end of every partition, because this log has no transactions.
func (l *Log) Bounds(ctx context.Context) (map[int32]pubsub.Bounds, error) {
	bounds := make(map[int32]pubsub.Bounds)
	for p, partition := range l.bus.topic(l.topic) {
		_, next := partition.bounds()
		last := l.bus.position(int32(p), next-1).Seq
		bounds[int32(p)] = pubsub.Bounds{Stable: last, Written: last}
	}
	return bounds, ctx.Err()
}

// Committed returns, by partition, the last position that the group has acknowledged.
func (l *Log) Committed(ctx context.Context, group string) (map[int32]int64, error) {
	committed := make(map[int32]int64)
	for p, progress := range l.bus.group(group, l.topic) {
		committed[int32(p)] = 0
		if next := progress.get(); next > 0 {
			committed[int32(p)] = l.bus.position(int32(p), next-1).Seq
		}
	}
	return committed, ctx.Err()
}

// Current counts every position of another epoch as before the first record.
func (l *Log) Current(positions map[int32]int64) map[int32]int64 {
	current := make(map[int32]int64, len(positions))
	for p, seq := range positions {
		current[p] = max(seq, events.Seq(l.bus.config.Epoch, -1))
	}
	return current
}

// Read visits the records in the ranges, one partition after the other.
func (l *Log) Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error {
	epoch := l.bus.config.Epoch
	for _, asked := range ranges {
		if asked.After >= asked.Through {
			continue
		}
		if asked.Partition < 0 || asked.Partition >= l.Partitions() {
			return fmt.Errorf("topic %s has no partition %d", l.topic, asked.Partition)
		}
		partition := l.bus.topic(l.topic)[asked.Partition]
		first, _ := partition.bounds()
		if asked.After < events.Seq(epoch, first-1) {
			return fmt.Errorf("partition %d after %d: %w", asked.Partition, asked.After, pubsub.ErrTrimmed)
		}
		for offset := events.Offset(asked.After) + 1; offset <= events.Offset(asked.Through); offset++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			msg, found := partition.at(offset)
			if msg == nil || found != offset {
				break
			}
			err := visit(l.bus.raw(asked.Partition, offset, msg))
			if errors.Is(err, pubsub.ErrSkipRest) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// raw returns the record that the message is in the log.
func (b *Bus) raw(partition int32, offset int64, msg *message.Message) pubsub.RawRecord {
	return pubsub.RawRecord{
		Position: b.position(partition, offset),
		Key:      []byte(msg.Metadata.Get(pubsub.KeyHeader)),
		Value:    msg.Payload,
		Headers:  (*headers)(msg),
		Replay:   msg.Metadata.Get(pubsub.ReplayHandlerHeader) != "",
	}
}

// headers are the headers of a record, which is kept as a message that must not be changed.
type headers message.Message

func (h *headers) Get(name string) string { return h.Metadata.Get(name) }
func (h *headers) All() map[string]string { return events.HeaderMap(h.Metadata).All() }
func (h *headers) ID() string             { return h.UUID }

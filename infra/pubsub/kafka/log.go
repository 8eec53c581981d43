package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Log reads a topic. It is safe for concurrent use.
type Log struct {
	bus   *Bus
	topic string
}

var _ pubsub.Log = (*Log)(nil)

// Log returns a reader of the topic, which should exist.
func (b *Bus) Log(topic string) pubsub.Log { return &Log{bus: b, topic: topic} }

// Partitions returns how many partitions the topic has, or 0 if that cannot be found out.
func (l *Log) Partitions() int32 {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	meta, err := l.bus.topics.get(ctx, l.topic)
	if err != nil {
		return 0
	}
	return meta.partitions()
}

// Bounds asks the partitions' leaders.
func (l *Log) Bounds(ctx context.Context) (map[int32]pubsub.Bounds, error) {
	// The order matters: a record that is published between the two requests must not look as if an open transaction lay
	// before it.
	written, err := l.bus.listOffsets(ctx, l.topic, latest, readUncommitted)
	if err != nil {
		return nil, fmt.Errorf("bounds of %s: %w", l.topic, err)
	}
	stable, err := l.bus.listOffsets(ctx, l.topic, latest, readCommitted)
	if err != nil {
		return nil, fmt.Errorf("bounds of %s: %w", l.topic, err)
	}
	bounds := make(map[int32]pubsub.Bounds, len(stable))
	epochs := l.bus.continuity.epochs(l.topic)
	for p := range stable {
		bounds[p] = pubsub.Bounds{
			Stable:  epochs.Position(p, stable[p]).Seq - 1,
			Written: epochs.Position(p, max(written[p], stable[p])).Seq - 1,
		}
	}
	return bounds, nil
}

// Current implements pubsub.Log.
func (l *Log) Current(positions map[int32]int64) map[int32]int64 {
	epochs := l.bus.continuity.epochs(l.topic)
	current := make(map[int32]int64, len(positions))
	for p, seq := range positions {
		current[p] = epochs.Current(events.Position{Partition: p, Seq: seq}).Seq
	}
	return current
}

// Committed asks the group's coordinator.
func (l *Log) Committed(ctx context.Context, group string) (map[int32]int64, error) {
	meta, err := l.bus.topics.get(ctx, l.topic)
	if err != nil {
		return nil, err
	}
	commits, err := l.bus.commits(ctx, l.topic, group)
	if err != nil {
		return nil, err
	}
	epochs := l.bus.continuity.epochs(l.topic)
	positions := make(map[int32]int64, meta.partitions())
	for p := range meta.partitions() {
		positions[p] = 0
		if at, ok := commits[p]; ok {
			positions[p] = epochs.Position(p, at.resume(epochs, p)).Seq - 1
		}
	}
	return positions, nil
}

// Kafka asks for one of the two ends of a partition by these numbers in place of a timestamp.
const (
	latest   int64 = -1
	earliest int64 = -2
)

// Kafka's numbers of the isolation levels. A committed read ends at the last stable offset, which is that of the first record
// of the oldest open transaction, and skips the records of aborted transactions.
const (
	readUncommitted int8 = 0
	readCommitted   int8 = 1
)

// listOffsets returns the first offset that is kept (earliest), or the one that the next record for a reader of this
// isolation level will get (latest), for the partitions passed or for all.
func (b *Bus) listOffsets(
	ctx context.Context, topic string, at int64, isolation int8, partitions ...int32,
) (map[int32]int64, error) {
	meta, err := b.topics.get(ctx, topic)
	if err != nil {
		return nil, err
	}
	if len(partitions) == 0 {
		for p := range meta.partitions() {
			partitions = append(partitions, p)
		}
	}
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for _, p := range partitions {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = p, at
		asked.Partitions = append(asked.Partitions, partition)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	req.Topics = append(req.Topics, asked)
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	offsets := make(map[int32]int64, len(partitions))
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("list offset of partition %d: %w", p.Partition, err)
			}
			offsets[p.Partition] = p.Offset
		}
	}
	for _, p := range partitions {
		if _, ok := offsets[p]; !ok {
			return nil, fmt.Errorf("list offset of partition %d: no answer", p)
		}
	}
	return offsets, nil
}

// firstOffset returns the offset of the oldest record that is kept, or of the first one to come.
func (b *Bus) firstOffset(ctx context.Context, at place) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	offsets, err := b.listOffsets(ctx, at.topic, earliest, readCommitted, at.partition)
	return offsets[at.partition], err
}

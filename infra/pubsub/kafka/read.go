package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/events"
	"millrace/infra/pubsub"
)

// The bounds of one fetch. A single record batch that is larger is fetched all the same.
const (
	maxFetchBytes          = 4 << 20
	maxFetchPartitionBytes = 512 << 10
)

// A fetch is repeated this often if the partition has another leader by now, or if nothing comes of what must be there.
const (
	fetchTries = 10
	fetchPause = 50 * time.Millisecond
)

// Read fetches from the partitions' leaders, all ranges of a leader in one request, and keeps one response at a time in
// memory. A range that begins in an earlier epoch than it ends in is trimmed, because what that epoch had at its end is lost.
// Records after the beginning of an open transaction are not there yet.
func (l *Log) Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error {
	r := reader{log: l, epochs: l.bus.continuity.epochs(l.topic), visit: visit, cursors: make(map[int32]*cursor, len(ranges))}
	if err := r.plan(ranges); err != nil {
		return err
	}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("read %s: %w", l.topic, err)
	}
	return nil
}

// run reads until nothing is left of the cursors.
func (r *reader) run(ctx context.Context) error {
	tries := 0
	for len(r.cursors) > 0 {
		progress, err := r.round(ctx)
		if err != nil {
			return err
		}
		if progress {
			tries = 0
			continue
		}
		if tries++; tries == fetchTries {
			return fmt.Errorf("no progress: %w", r.trouble)
		}
		select {
		case <-time.After(fetchPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := r.log.bus.topics.load(ctx, r.log.topic); err != nil {
			return err
		}
	}
	return nil
}

// cursor is the part of a partition that is still to be read.
type cursor struct{ next, last int64 }

type reader struct {
	log     *Log
	epochs  *events.Epochs
	visit   func(pubsub.RawRecord) error
	cursors map[int32]*cursor
	trouble error // why the last fetch brought nothing
	// skip makes the read begin where the log begins if the log has lost the beginning of the range, instead of failing.
	skip bool
}

func (r *reader) plan(ranges []events.Range) error {
	for _, asked := range ranges {
		if asked.After >= asked.Through {
			continue
		}
		epoch, begin := r.epochs.At(asked.Partition, events.Offset(asked.Through))
		before := events.Seq(epoch, begin-1)
		if events.EpochOf(asked.After) == epoch {
			asked.After = max(asked.After, before) // no record ever had a position of the epoch up to there
		}
		if epoch != events.EpochOf(asked.Through) || asked.After < before {
			return fmt.Errorf("partition %d after %d: %w", asked.Partition, asked.After, pubsub.ErrTrimmed)
		}
		if _, ok := r.cursors[asked.Partition]; ok {
			return fmt.Errorf("read: two ranges of partition %d", asked.Partition)
		}
		r.cursors[asked.Partition] = &cursor{
			next: events.Offset(asked.After) + 1,
			last: events.Offset(asked.Through),
		}
	}
	return nil
}

// round sends one fetch to every leader and visits the records that come.
func (r *reader) round(ctx context.Context) (progress bool, err error) {
	meta, err := r.log.bus.topics.get(ctx, r.log.topic)
	if err != nil {
		return false, err
	}
	if id := r.epochs.TopicID; id != "" && id != meta.id.String() {
		return false, fmt.Errorf("%w: topic %s was made anew", pubsub.ErrUnsettled, meta.name)
	}
	byLeader := make(map[int32][]int32)
	for p := range r.cursors {
		if p < 0 || p >= meta.partitions() {
			return false, fmt.Errorf("no partition %d: %w", p, kerr.UnknownTopicOrPartition)
		}
		byLeader[meta.leaders[p]] = append(byLeader[meta.leaders[p]], p)
	}
	for leader, partitions := range byLeader {
		more, err := r.fetch(ctx, meta, leader, partitions)
		if err != nil {
			return false, err
		}
		progress = progress || more
	}
	return progress, nil
}

func (r *reader) fetch(ctx context.Context, meta *topic, leader int32, partitions []int32) (progress bool, err error) {
	asked := kmsg.NewFetchRequestTopic()
	asked.Topic, asked.TopicID = meta.name, meta.id
	for _, p := range partitions {
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.Partition, partition.FetchOffset = p, r.cursors[p].next
		partition.PartitionMaxBytes = maxFetchPartitionBytes
		asked.Partitions = append(asked.Partitions, partition)
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes = maxFetchBytes
	req.IsolationLevel = readCommitted
	req.Topics = append(req.Topics, asked)
	kresp, err := r.log.bus.client.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		r.trouble = err
		return false, ctx.Err()
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok {
		return false, fmt.Errorf("fetch was answered by %T", kresp)
	}
	r.trouble = kerr.ErrorForCode(resp.ErrorCode) // the response has no topics then
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			more, err := r.partition(ctx, &resp.Topics[i].Partitions[j])
			if err != nil {
				return false, err
			}
			progress = progress || more
		}
	}
	return progress, nil
}

// partition visits the records of one partition in a fetch's response.
func (r *reader) partition(ctx context.Context, got *kmsg.FetchResponseTopicPartition) (progress bool, err error) {
	c, ok := r.cursors[got.Partition]
	if !ok {
		return false, fmt.Errorf("fetch was answered for partition %d", got.Partition)
	}
	switch err := kerr.ErrorForCode(got.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		return true, r.outOfRange(ctx, got.Partition)
	case kerr.IsRetriable(err):
		r.trouble = err
		return false, nil
	case err != nil:
		return false, fmt.Errorf("fetch partition %d: %w", got.Partition, err)
	}
	fetched, next := kgo.ProcessFetchPartition(
		kgo.ProcessFetchPartitionOpts{
			Topic: r.log.topic, Partition: got.Partition, Offset: c.next, IsolationLevel: kgo.ReadCommitted(),
		},
		got, kgo.DefaultDecompressor(), nil)
	if fetched.Err != nil {
		return false, fmt.Errorf("fetch partition %d at offset %d: %w", got.Partition, c.next, fetched.Err)
	}
	for _, record := range fetched.Records {
		if record.Offset > c.last {
			break
		}
		raw := pubsub.RawRecord{
			Position: r.epochs.Position(record.Partition, record.Offset),
			Key:      record.Key, Value: record.Value,
			Headers: (*headers)(record),
			Replay:  (*headers)(record).Get(pubsub.ReplayHandlerHeader) != "",
		}
		switch err := r.visit(raw); {
		case errors.Is(err, pubsub.ErrSkipRest):
			delete(r.cursors, got.Partition)
			return true, nil
		case err != nil:
			return false, err
		}
	}
	r.trouble = errors.New("nothing came of what is before the end")
	progress = next > c.next
	c.next = next
	if c.next > c.last || c.next >= got.LastStableOffset {
		delete(r.cursors, got.Partition)
		progress = true
	}
	return progress, nil
}

// headers are the headers of a record as a subscriber sees them.
type headers kgo.Record

// Get implements pubsub.Headers: of several headers with the name the last one counts.
func (r *headers) Get(name string) string {
	if name == pubsub.KeyHeader {
		return string(r.Key) // a header of the name was set by a foreign producer
	}
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// All implements pubsub.Headers.
func (r *headers) All() map[string]string {
	all := make(map[string]string, len(r.Headers)+1)
	for _, h := range r.Headers {
		if h.Key != kafka.UUIDHeaderKey && h.Key != pubsub.KeyHeader {
			all[h.Key] = string(h.Value)
		}
	}
	if len(r.Key) > 0 {
		all[pubsub.KeyHeader] = string(r.Key)
	}
	return all
}

// ID implements pubsub.Headers.
func (r *headers) ID() string { return r.Get(kafka.UUIDHeaderKey) }

// outOfRange finds out whether retention has removed the beginning of the range, or the partition ends before the range
// begins.
func (r *reader) outOfRange(ctx context.Context, partition int32) error {
	first, err := r.log.bus.firstOffset(ctx, place{r.log.topic, partition})
	if err != nil {
		return err
	}
	switch c := r.cursors[partition]; {
	case c.next < first && r.skip && first <= c.last:
		c.next = first
		return nil
	case c.next < first && !r.skip:
		return fmt.Errorf("partition %d begins at offset %d, not %d: %w", partition, first, c.next, pubsub.ErrTrimmed)
	}
	delete(r.cursors, partition)
	return nil
}

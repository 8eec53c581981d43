package kafka

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/pubsub"
)

// foreign returns a producer to partition 0 as another program would have it.
func foreign(t *testing.T, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := newClient(Config{Brokers: brokers}, append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func readAll(t *testing.T, bus *Bus, topic string, ranges ...events.Range) ([]pubsub.RawRecord, error) {
	t.Helper()
	var records []pubsub.RawRecord
	err := bus.Log(topic).Read(t.Context(), ranges, func(r pubsub.RawRecord) error {
		records = append(records, r)
		return nil
	})
	return records, err
}

func TestReadSkipsMarkersOfTransactions(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	client := foreign(t, at, kgo.TransactionalID(topic), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	for i := range 4 { // behind each is a marker, which takes an offset; the last marker is no record that is read
		require.NoError(t, client.BeginTransaction())
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)}).FirstErr())
		end(t, client, kgo.TryCommit)
	}
	end, err := bus.Log(topic).End(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(7), end[0])
	records, err := readAll(t, bus, topic, events.Range{Through: end[0] + 1})
	require.NoError(t, err)
	var seqs []int64
	for _, r := range records {
		seqs = append(seqs, r.Seq)
	}
	require.Equal(t, []int64{1, 3, 5, 7}, seqs)
	records, err = readAll(t, bus, topic, events.Range{After: 5, Through: 6})
	require.NoError(t, err)
	require.Empty(t, records)
}

func TestReadTakesMoreThanOneFetch(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 3)
	bus := open(t, Config{Brokers: at})
	value := bytes.Repeat([]byte("x"), 60<<10)
	const records = 150 // 9 MB
	var ranges []events.Range
	client := foreign(t, at, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for p := range int32(3) {
		for range records / 3 {
			require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: value}).FirstErr())
		}
		ranges = append(ranges, events.Range{Partition: p, Through: records / 3})
	}
	got, err := readAll(t, bus, topic, ranges...)
	require.NoError(t, err)
	require.Len(t, got, records)
	latest := make(map[int32]int64)
	for _, r := range got {
		require.Equal(t, latest[r.Partition]+1, r.Seq)
		latest[r.Partition] = r.Seq
	}
}

func TestReadOfRemovedRecordsReturnsErrTrimmed(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	client := foreign(t, at)
	for range 5 {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
	}
	deleteRecords(t, at, topic, 3)

	_, err := readAll(t, bus, topic, events.Range{After: 2, Through: 5})
	require.ErrorIs(t, err, pubsub.ErrTrimmed)
	records, err := readAll(t, bus, topic, events.Range{After: 3, Through: 5})
	require.NoError(t, err)
	require.Len(t, records, 2)

	// A group that has never committed begins where the log does.
	assigned := make(chan events.Position, 1)
	sub, err := bus.Subscriber("new", pubsub.SubscriberConfig{Assigned: func(p events.Position) { assigned <- p }})
	require.NoError(t, err)
	in, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	first := <-in
	first.Ack()
	(<-in).Ack()
	require.NoError(t, sub.Close())
	require.Equal(t, events.Position{Seq: 3}, <-assigned)
	pos, err := bus.Position(first)
	require.NoError(t, err)
	require.Equal(t, int64(4), pos.Seq)
}

func TestReadOfAnOlderEpochReturnsErrTrimmed(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at, Epoch: 1})
	msg := message.NewMessage("", []byte("x"))
	require.NoError(t, bus.Publisher().Publish(topic, msg))
	first := events.Seq(1, 0)
	for name, r := range map[string]events.Range{
		"from the beginning of time": {Through: first},
		"from the older epoch":       {After: 7, Through: first},
		"within the older epoch":     {After: 7, Through: 9},
	} {
		_, err := readAll(t, bus, topic, r)
		require.ErrorIs(t, err, pubsub.ErrTrimmed, name)
	}
	records, err := readAll(t, bus, topic, events.Range{After: first - 1, Through: first})
	require.NoError(t, err)
	require.Len(t, records, 1)
}

func TestReadEndsWhenItsContextDoes(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	require.NoError(t, foreign(t, at).ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := bus.Log(topic).Read(ctx, []events.Range{{Through: 1}}, func(pubsub.RawRecord) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
}

// An epoch that begins in the middle of a partition, because the partition has lost its end, has no positions before its first
// record. Whoever looks back to the beginning of the epoch misses nothing.
func TestRangeFromTheBeginningOfAnEpochIsNotTrimmed(t *testing.T) {
	epochs := &events.Epochs{Cuts: []events.Cut{{Epoch: 1, Offset: 48}}}
	plan := func(asked events.Range) (cursor, error) {
		r := reader{epochs: epochs, cursors: map[int32]*cursor{}}
		if err := r.plan([]events.Range{asked}); err != nil {
			return cursor{}, err
		}
		return *r.cursors[0], nil
	}
	through := events.Seq(1, 300)
	for name, test := range map[string]struct {
		after int64
		next  int64 // 0: trimmed
	}{
		"the beginning of the epoch":  {events.EpochStart(through), 48},
		"before its first record":     {events.Seq(1, 40), 48},
		"its first record":            {events.Seq(1, 48), 49},
		"what the loss may have cost": {events.Seq(0, 47), 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan(events.Range{After: test.after, Through: through})
			if test.next == 0 {
				require.ErrorIs(t, err, pubsub.ErrTrimmed)
				return
			}
			require.NoError(t, err)
			require.Equal(t, cursor{test.next, 300}, got)
		})
	}
	looks := 0
	require.NoError(t, pubsub.LookBack(events.Position{Seq: through}, pubsub.MaxLookBack, func(r events.Range) error {
		looks++
		_, err := plan(r)
		return err
	}))
	require.Equal(t, 1, looks, "all of the epoch is within the 1,000 records")
}

package pubsubtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
)

func positionsAgree(t *testing.T, f Factory) {
	var sent []*message.Message
	for i := range 30 {
		sent = append(sent, keyed(fmt.Sprintf("key-%d", i%7), i))
	}
	f.publish(t, sent...)
	want := make(map[string]events.Position)
	latest := make(map[int32]int64)
	for _, msg := range sent {
		pos, err := f.Bus.Position(msg)
		require.NoError(t, err)
		require.Greater(t, pos.Seq, latest[pos.Partition], "positions of a partition ascend")
		latest[pos.Partition] = pos.Seq
		want[string(msg.Payload)] = pos
	}
	for _, group := range []string{"positions-1", "positions-2"} {
		r := f.join(t, group, pubsub.SubscriberConfig{})
		for _, msg := range r.take(len(sent)) {
			require.Equal(t, want[string(msg.Payload)], r.position(msg))
		}
	}
	records := f.read(t)
	require.Len(t, records, len(sent))
	for _, r := range records {
		require.Equal(t, want[string(r.Value)], r.Position)
		require.False(t, r.Replay)
	}
	_, err := f.Bus.Position(message.NewMessage("nowhere", nil))
	require.Error(t, err)
}

func headersAreRead(t *testing.T, f Factory) {
	msg := keyed("key", 0)
	msg.Metadata.Set("region", "north")
	msg.Metadata.Set(pubsub.ReplayHandlerHeader, "storage")
	f.publish(t, msg)
	records := f.read(t)
	require.Len(t, records, 1)
	require.True(t, records[0].Replay)
	require.Equal(t, msg.Metadata, message.Metadata(records[0].Headers.All()))
	require.Equal(t, msg.UUID, records[0].Headers.ID())
	require.Equal(t, "north", records[0].Headers.Get("region"))
	require.Equal(t, "key", records[0].Headers.Get(pubsub.KeyHeader))
}

func logAgrees(t *testing.T, f Factory) {
	partitions := f.Bus.Log(f.Topic).Partitions()
	require.Len(t, f.end(t), int(partitions))
	none := f.committed(t, "log")
	require.Len(t, none, int(partitions))
	for p := range partitions {
		require.Zero(t, none[p], "a group that never was has acknowledged something")
	}
	require.Empty(t, f.read(t))

	sent := append(series(f.keyIn(0), 5), series(f.keyIn(1), 3)...)
	f.publish(t, sent...)
	end := f.end(t)
	require.Equal(t, position(t, f, sent[4]), end[0])
	require.Equal(t, position(t, f, sent[7]), end[1])
	for p := int32(2); p < partitions; p++ {
		require.Equal(t, f.start[p], end[p])
	}

	r := f.join(t, "log", pubsub.SubscriberConfig{})
	r.take(len(sent))
	require.Eventually(t, func() bool {
		committed := f.committed(t, "log")
		return committed[0] == end[0] && committed[1] == end[1]
	}, patience, 10*time.Millisecond, "what was acknowledged is committed by itself")
	r.close()
	committed := f.committed(t, "log")
	require.Equal(t, end[0], committed[0])
	require.Equal(t, end[1], committed[1])
	require.Zero(t, f.committed(t, "log-other")[0])
}

func position(t *testing.T, f Factory, msg *message.Message) int64 {
	t.Helper()
	pos, err := f.Bus.Position(msg)
	require.NoError(t, err)
	return pos.Seq
}

func readKeepsToRanges(t *testing.T, f Factory) {
	zero, one := series(f.keyIn(0), 10), series(f.keyIn(1), 10)
	f.publish(t, append(zero, one...)...)
	at := func(msg *message.Message) int64 { return position(t, f, msg) }

	records := f.read(t,
		events.Range{Partition: 0, After: at(zero[2]), Through: at(zero[5])},
		events.Range{Partition: 1, After: at(one[8]), Through: at(one[9]) + 100})
	byPartition := make(map[int32][]string)
	for _, r := range records {
		byPartition[r.Partition] = append(byPartition[r.Partition], string(r.Value))
	}
	require.Equal(t, map[int32][]string{0: payloads(zero[3:6]), 1: payloads(one[9:])}, byPartition)

	require.Empty(t, f.read(t, events.Range{Partition: 0, After: at(zero[3]), Through: at(zero[3])}))
	require.Empty(t, f.read(t, events.Range{Partition: 0, After: at(zero[9]), Through: at(zero[9]) + 5}))
	require.Empty(t, f.read(t, events.Range{Partition: 0, After: at(zero[9]) + 5, Through: at(zero[9]) + 9}))
	require.Error(t, f.Bus.Log(f.Topic).Read(t.Context(),
		[]events.Range{{Partition: 1000, Through: 5}}, func(pubsub.RawRecord) error { return nil }))
}

func readEndsWithError(t *testing.T, f Factory) {
	f.publish(t, series("key", 5)...)
	partition := events.Partition("key", f.Bus.Log(f.Topic).Partitions())
	enough, visited := errors.New("enough"), 0
	err := f.Bus.Log(f.Topic).Read(t.Context(), []events.Range{{Partition: partition, After: f.start[partition], Through: f.end(t)[partition]}},
		func(pubsub.RawRecord) error {
			if visited++; visited == 2 {
				return enough
			}
			return nil
		})
	require.ErrorIs(t, err, enough)
	require.Equal(t, 2, visited)
}

func readSkipsTheRest(t *testing.T, f Factory) {
	zero, one := series(f.keyIn(0), 10), series(f.keyIn(1), 10)
	f.publish(t, append(zero, one...)...)
	end := f.end(t)
	byPartition := make(map[int32][]string)
	require.NoError(t, f.Bus.Log(f.Topic).Read(t.Context(), []events.Range{
		{Partition: 0, After: f.start[0], Through: end[0]}, {Partition: 1, After: f.start[1], Through: end[1]},
	}, func(r pubsub.RawRecord) error {
		byPartition[r.Partition] = append(byPartition[r.Partition], string(r.Value))
		if r.Partition == 0 && len(byPartition[0]) == 3 {
			return pubsub.ErrSkipRest
		}
		return nil
	}))
	require.Equal(t, map[int32][]string{0: payloads(zero[:3]), 1: payloads(one)}, byPartition)
}

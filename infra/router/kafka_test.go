package router_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/broker"
	"millrace/infra/pubsub/kafka"
	"millrace/infra/router"
)

// overKafka returns a bus over a broker of the test's own.
func overKafka(t *testing.T) *kafka.Bus {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), Log: log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	config := kafka.Config{Brokers: []string{b.Addr()}, Partitions: 4}
	_, err = kafka.EnsureTopics(t.Context(), config, log)
	require.NoError(t, err)
	bus, err := kafka.NewBus(t.Context(), config, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	return bus
}

// Over the real protocol: records that were being handled, retried or poisoned when the router stopped are not lost, and
// records that were done do not come again.
func TestRestartOverKafkaLosesNothing(t *testing.T) {
	bus := overKafka(t)
	const conversations, messages = 8, 25
	for i := range messages {
		for to := range int64(conversations) {
			publishEvent(t, bus, newMessage(to+1, strconv.Itoa(i)))
		}
	}
	publish(t, bus, events.Direct(1, 1), "undecodable")

	var handled journal[events.Record]
	var failed journal[events.Position]
	stop := run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		if r.Message.To == 1 && r.Message.ClientMsgID == "12" {
			failed.add(r.Position)
			return errDown // so its partition gets no further
		}
		handled.add(r)
		return nil
	}))
	handled.wait(t, 3*messages)
	failed.wait(t, 1)
	stop()
	before := len(handled.all())

	run(t, bus, router.Options{}, handler(func(_ context.Context, r events.Record) error {
		handled.add(r)
		return nil
	}))
	requireAllCommitted(t, bus)
	require.Len(t, handled.all(), conversations*messages, "before the restart %d", before)
	next := make(map[int64]int)
	for _, r := range handled.all() {
		require.Equal(t, strconv.Itoa(next[r.Message.To]), r.Message.ClientMsgID)
		next[r.Message.To]++
	}
	require.Equal(t, "undecodable", string(poisonQueue(t, bus, 1)[0].Payload))
}

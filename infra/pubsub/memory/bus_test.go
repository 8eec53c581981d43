package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/pubsub/pubsubtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBus(t *testing.T) {
	for name, epoch := range map[string]int64{"first epoch": 0, "later epoch": 3} {
		t.Run(name, func(t *testing.T) {
			pubsubtest.Run(t, func(*testing.T) pubsubtest.Factory {
				return pubsubtest.Factory{
					Bus: memory.NewBus(memory.Config{Epoch: epoch}), Topic: "topic",
					NoRebalance: "one member of a group reads all partitions",
				}
			})
		})
	}
}

func TestPublishTellsHowManyWereAcceptedBeforeTheFailure(t *testing.T) {
	full := errors.New("disk full")
	bus := memory.NewBus(memory.Config{Fail: func(_ string, msg *message.Message) error {
		if msg.UUID == "bad" {
			return full
		}
		return nil
	}})
	err := bus.Publisher().Publish("topic", message.NewMessage("1", nil), message.NewMessage("bad", nil), message.NewMessage("3", nil))
	var refused *pubsub.PublishError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 1, refused.Accepted)
	require.ErrorIs(t, err, full)
	end, err := bus.Log("topic").End(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1), end[0]+end[1]+end[2]+end[3])
}

func TestReadOfTrimmedRecordsReturnsErrTrimmed(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	msgs := []*message.Message{message.NewMessage("1", nil), message.NewMessage("2", nil), message.NewMessage("3", nil)}
	require.NoError(t, bus.Publisher().Publish("topic", msgs...))
	bus.Trim("topic", events.Position{Seq: 2})
	visit := func(pubsub.RawRecord) error { return nil }
	log := bus.Log("topic")
	require.ErrorIs(t, log.Read(t.Context(), []events.Range{{After: 1, Through: 3}}, visit), pubsub.ErrTrimmed)
	require.NoError(t, log.Read(t.Context(), []events.Range{{After: 2, Through: 3}}, visit))
}

func TestBundleGathersWhatComesWithinTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const gather = 20 * time.Millisecond
		bus := memory.NewBus(memory.Config{Partitions: 1})
		sub, err := bus.Subscriber("group", pubsub.SubscriberConfig{Bundle: 10, Gather: gather})
		require.NoError(t, err)
		in, err := sub.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		begin := time.Now()
		publish := func() { require.NoError(t, bus.Publisher().Publish("topic", message.NewMessage("", nil))) }
		take := func(meanwhile int) (records int, at time.Duration) {
			msg := <-in
			at = time.Since(begin)
			for range meanwhile {
				publish()
			}
			msg.Ack()
			return len(pubsub.BundleOf(msg).Records), at
		}
		for range 3 {
			publish()
			time.Sleep(gather / 4)
		}
		records, at := take(10)
		require.Equal(t, 3, records)
		require.Equal(t, gather, at)
		records, at = take(0)
		require.Equal(t, 10, records)
		require.Equal(t, gather, at, "as many as a bundle may have wait for no more")
		require.NoError(t, sub.Close())
		require.NoError(t, bus.Close())
	})
}

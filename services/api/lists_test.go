package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
	apiv1 "millrace/proto/millrace/api/v1"
)

// countingBus counts the records that are read.
type countingBus struct {
	pubsub.Bus
	read *int
}

type countingLog struct {
	pubsub.Log
	read *int
}

func (b countingBus) Log(topic string) pubsub.Log { return countingLog{b.Bus.Log(topic), b.read} }

func (l countingLog) Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error {
	return l.Log.Read(ctx, ranges, func(r pubsub.RawRecord) error {
		*l.read++
		return visit(r)
	})
}

func TestAPoisonQueueThatStaysTheSameIsReadOnceAMinuteHoweverOftenItIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := countingBus{memory.NewBus(memory.Config{Partitions: 1}), new(int)}
		poison := func() {
			msg := message.NewMessage("", []byte("value"))
			msg.Metadata.Set(router.PoisonHandlerHeader, "storage")
			require.NoError(t, bus.Publisher().Publish(events.PoisonTopic(events.TopicMessages), msg))
		}
		o := &Operator{Bus: bus}
		list := func(want, read int) {
			t.Helper()
			for range 3 {
				got, err := o.ListPoisoned(context.Background(), &apiv1.ListPoisonedRequest{Limit: 2})
				require.NoError(t, err)
				require.EqualValues(t, want, got.GetSelected())
				require.Len(t, got.GetRecords(), min(want, 2))
			}
			require.Equal(t, read, *bus.read)
		}
		list(0, 0)
		poison()
		list(1, 1)
		poison()
		poison()
		list(3, 1+3)
		time.Sleep(listLife)
		list(3, 4+3)
		require.NoError(t, bus.Close())
	})
}

package router_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

var vip = events.RouteTopic("vip") //nolint:gochecknoglobals // a constant

// publishCopy puts a copy of the original on the topic of the route vip.
func publishCopy(t *testing.T, bus pubsub.Bus, e *events.Event, origin string) events.Position {
	t.Helper()
	value, err := events.Encode(e)
	require.NoError(t, err)
	msg := message.NewMessage("", value)
	msg.Metadata.Set(pubsub.KeyHeader, e.ConversationKey())
	msg.Metadata.Set(events.OriginHeader, origin)
	msg.Metadata.Set("user_type", "guest")
	require.NoError(t, bus.Publisher().Publish(vip, msg))
	pos, err := bus.Position(msg)
	require.NoError(t, err)
	return pos
}

func TestHandlerOfARouteGetsCopiesOnceWithTheirOrigin(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	first := publishCopy(t, bus, newMessage(2, "a"), "0:900")
	publishCopy(t, bus, newMessage(2, "a"), "0:900") // the route handler has made it twice
	publishCopy(t, bus, newMessage(2, "b"), "nonsense")
	last := publishCopy(t, bus, newMessage(2, "c"), "0:950")
	var handled journal[events.Record]
	h := handler(func(_ context.Context, r events.Record) error {
		handled.add(r)
		return nil
	})
	h.Topic = vip
	run(t, bus, quick(), h)

	got := handled.wait(t, 2)
	require.Len(t, got, 2)
	require.Equal(t, []events.Position{first, last}, []events.Position{got[0].Position, got[1].Position})
	require.Equal(t, events.Position{Seq: 900}, got[0].Origin)
	require.Equal(t, "guest", got[0].Header("user_type"))
	require.Equal(t, "a", got[0].Message.Content)
	entries, err := poison.New(bus, vip).Entries(t.Context())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Contains(t, entries[0].Reason, events.OriginHeader)
}

func TestRecordComesWithItsOwnHeadersAndValueAlsoFromThePoisonQueue(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	broken := true
	var handled journal[events.Record]
	run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		if handled.add(r); broken {
			broken = false
			return events.Permanent(errors.New("broken"))
		}
		return nil
	}))
	publishEvent(t, bus, newMessage(2, "a"), events.RoutesHeader, "vip")
	poisonQueue(t, bus, 1)
	queue := poison.New(bus, events.TopicMessages)
	entries, err := queue.Entries(t.Context())
	require.NoError(t, err)
	_, err = queue.Replay(t.Context(), entries, poison.Filter{}, 0)
	require.NoError(t, err)

	got := handled.wait(t, 2)
	value, err := events.Encode(newMessage(2, "a"))
	require.NoError(t, err)
	for i, r := range got {
		require.Equal(t, i == 1, r.Replay)
		require.Equal(t, "vip", r.Header(events.RoutesHeader))
		require.JSONEq(t, string(value), string(r.Value))
		require.NotContains(t, r.Headers.All(), router.ReplayHandlerHeader)
		require.NotContains(t, r.Headers.All(), router.ReplayPositionHeader)
		require.Zero(t, r.Origin)
	}
}

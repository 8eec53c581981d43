package router_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

func TestReplayIsHandledAtItsOriginalPositionAndSettledAtItsOwn(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	original := publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "nobody")
	replay := publishEvent(t, bus, newMessage(2, "a"),
		router.ReplayHandlerHeader, "test", router.ReplayPositionHeader, original.String())
	var handled, settled journal[events.Position]
	h := handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Position)
		return nil
	})
	h.Settled = func(p events.Position) { settled.add(p) }
	run(t, bus, quick(), h)
	requireAllCommitted(t, bus)
	require.Equal(t, []events.Position{original}, handled.all())
	require.Equal(t, []events.Position{original, replay}, settled.all())
}

// The store may have a repeat of the message, from behind it, before the message itself is replayed.
func TestReplayOfWhatWasRepeatedSinceIsHandled(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	original := publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "nobody")
	repeat := publishEvent(t, bus, newMessage(2, "a"))
	publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "test", router.ReplayPositionHeader, original.String())
	var handled journal[events.Position]
	run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Position)
		return nil
	}))
	requireAllCommitted(t, bus)
	require.Equal(t, []events.Position{repeat, original}, handled.all())
}

func TestReplayThatFailsAgainIsPoisonedAsTheOriginal(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	original := publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "nobody")
	publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "test", router.ReplayPositionHeader, original.String())
	run(t, bus, quick(), handler(func(context.Context, events.Record) error {
		return events.Permanent(errors.New("still broken"))
	}))
	record := poisonQueue(t, bus, 1)[0]
	require.Equal(t, original.String(), record.Metadata.Get(router.PoisonPositionHeader))
	require.Equal(t, "still broken", record.Metadata.Get(router.PoisonReasonHeader))
	require.NotEmpty(t, record.Metadata.Get(router.PoisonTimeHeader))
	require.NotContains(t, record.Metadata, router.ReplayHandlerHeader)
	require.NotContains(t, record.Metadata, router.ReplayPositionHeader)
}

func TestReplayThatDoesNotSayWhereItWasIsPoisoned(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "test", router.ReplayPositionHeader, "here")
	run(t, bus, quick(), handler(func(context.Context, events.Record) error { return nil }))
	require.Contains(t, poisonQueue(t, bus, 1)[0].Metadata.Get(router.PoisonReasonHeader), router.ReplayPositionHeader)
}

// A batch ascends within its partition, and so must what the handler makes of it.
func TestReplayStaysOutOfBatches(t *testing.T) {
	log := memory.NewBus(memory.Config{})
	first := publishEvent(t, log, newMessage(2, "first"))
	value, err := events.Encode(newMessage(2, "replayed"))
	require.NoError(t, err)
	replay := message.NewMessage("", value)
	replay.Metadata.Set(router.ReplayHandlerHeader, "test")
	replay.Metadata.Set(router.ReplayPositionHeader, first.String())
	bus := bundles{log, []*message.Message{replay}}
	var batched, alone journal[string]
	h := handler(func(_ context.Context, r events.Record) error {
		alone.add(r.Message.ClientMsgID)
		return nil
	})
	h.HandleBatch = func(_ context.Context, records []events.Record) []error {
		for _, r := range records {
			batched.add(r.Message.ClientMsgID)
		}
		return make([]error, len(records))
	}
	run(t, bus, quick(), h)
	require.Equal(t, []string{"replayed"}, alone.wait(t, 1))
	requireAllCommitted(t, bus)
	require.Equal(t, []string{"first"}, batched.all())
}

package router_test

import (
	"context"
	"errors"
	"testing"

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

// The store may have a repeat of the message, from a later position, before the message itself is replayed.
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

// The records of a batch ascend within their partition, and a replay would break that order.
func TestReplayStaysOutOfBatches(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	first := publishEvent(t, bus, newMessage(2, "first"))
	publishEvent(t, bus, newMessage(2, "replayed"), router.ReplayHandlerHeader, "test", router.ReplayPositionHeader, first.String())
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

// With a position elsewhere the handler would take what lies before it for handled.
func TestReplayOfWhatDoesNotLieBeforeItIsPoisoned(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	first := publishEvent(t, bus, newMessage(2, "first"))
	for name, forged := range map[string]events.Position{
		"ahead of it":       {Partition: first.Partition, Seq: first.Seq + 1000},
		"in another":        {Partition: first.Partition + 1, Seq: 1},
		"before everything": {Partition: first.Partition, Seq: 0},
	} {
		publishEvent(t, bus, newMessage(2, name), router.ReplayHandlerHeader, "test", router.ReplayPositionHeader, forged.String())
	}
	last := publishEvent(t, bus, newMessage(2, "last"))
	var handled journal[events.Position]
	run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Position)
		return nil
	}))
	require.Equal(t, []events.Position{first, last}, handled.wait(t, 2))
	for _, record := range poisonQueue(t, bus, 3) {
		require.Contains(t, record.Metadata.Get(router.PoisonReasonHeader), "is not before")
	}
}

// The handler gets the whole value from the log, as long as the log has it.
func TestReplayThatHoldsTheFirstBytesIsHandledWhole(t *testing.T) {
	for name, trimmed := range map[string]bool{"the log has it": false, "the log has it no more": true} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			original := publishEvent(t, bus, newMessage(2, "whole"), router.ReplayHandlerHeader, "nobody")
			publish(t, bus, events.Direct(1, 2), `{"type":"new_`, router.ReplayHandlerHeader, "test",
				router.ReplayPositionHeader, original.String(), router.ReplayValueBytesHeader, "300000")
			if trimmed {
				bus.Trim(events.TopicMessages, original)
			}
			var handled journal[string]
			run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
				handled.add(r.Message.Content + " at " + r.Position.String())
				return nil
			}))
			requireAllCommitted(t, bus)
			if !trimmed {
				require.Equal(t, []string{"whole at " + original.String()}, handled.all())
				requireNothingPoisoned(t, bus)
				return
			}
			require.Empty(t, handled.all())
			poisoned := poisonQueue(t, bus, 1)[0]
			require.Contains(t, poisoned.Metadata.Get(router.PoisonReasonHeader), "the log no longer has these records")
			require.Equal(t, "300000", poisoned.Metadata.Get(router.PoisonValueBytesHeader))
			require.Equal(t, original.String(), poisoned.Metadata.Get(router.PoisonPositionHeader))
		})
	}
}

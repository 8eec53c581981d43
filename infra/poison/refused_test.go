package poison_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/poison"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

func TestReplayForAHandlerThatCannotDoOneIsRefusedAndReported(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	pos := publish(t, bus, events.Direct(1, 2), value(2, "hello"))
	var fixed atomic.Bool
	var shown atomic.Int32
	h := events.Handler{
		Name: "shows", Topic: events.TopicMessages, Group: "shows-group", NoReplay: "it is past",
		Handle: func(context.Context, events.Record) error {
			if !fixed.Load() {
				return events.Permanent(errors.New("broken"))
			}
			shown.Add(1)
			return nil
		},
	}
	runHandlers(t, bus, []events.Handler{h}, router.Options{})
	queue := poison.New(bus, events.TopicMessages)
	require.Eventually(t, func() bool { return len(entries(t, queue)) == 1 }, patience, time.Millisecond)

	done := replay(t, queue, poison.Filter{NoReplay: map[string]string{"shows": "it is past"}})
	require.Zero(t, done.ToHandlers)
	require.Equal(t, map[string][]string{"shows": {entries(t, queue)[0].ID}}, done.Refused)
	require.False(t, entries(t, queue)[0].Replayed, "it stays")

	// If somebody replays the entry all the same, it comes back into the queue with the reason.
	fixed.Store(true)
	require.Equal(t, 1, replay(t, queue, poison.Filter{}).ToHandlers)
	require.Eventually(t, func() bool { return len(entries(t, queue)) == 2 }, patience, time.Millisecond)
	again := entries(t, queue)[1]
	require.Equal(t, "replay refused: it is past", again.Reason)
	require.Equal(t, pos.String(), again.Position)
	require.False(t, again.Replayed)
	require.Zero(t, shown.Load())
}

package poison

import (
	"log/slog"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

func TestBacklogIsWhatWasNotReplayed(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	queue := New(bus, events.TopicMessages)
	reg := prometheus.NewRegistry()
	backlog := NewBacklog(reg, Follow(bus, events.TopicMessages, nil), slog.New(slog.DiscardHandler))
	require.Zero(t, testutil.CollectAndCount(backlog.gauge), "nothing is known before the queue was read")
	tells := func(want float64) {
		t.Helper()
		require.NoError(t, backlog.measure(t.Context()))
		require.InDelta(t, want, testutil.ToFloat64(backlog.gauge), 0)
	}
	poison := func() {
		msg := message.NewMessage("", []byte("undecodable"))
		msg.Metadata.Set(router.PoisonHandlerHeader, "storage")
		msg.Metadata.Set(router.PoisonPositionHeader, events.Position{Partition: 1, Seq: 7}.String())
		require.NoError(t, bus.Publisher().Publish(events.PoisonTopic(events.TopicMessages), msg))
	}
	tells(0)
	for range 3 {
		poison()
	}
	tells(3)

	entries, err := queue.Entries(t.Context())
	require.NoError(t, err)
	_, err = queue.Replay(t.Context(), entries, Filter{IDs: []string{entries[0].ID}}, 0)
	require.NoError(t, err)
	tells(2)
	entries[0].Replayed = false
	require.NoError(t, queue.mark(entries[0]), "two replays at once")
	tells(2)
	poison()
	tells(3)

	late := NewBacklog(prometheus.NewRegistry(), Follow(bus, events.TopicMessages, nil), slog.New(slog.DiscardHandler))
	require.NoError(t, late.measure(t.Context()))
	require.InDelta(t, 3, testutil.ToFloat64(late.gauge), 0, "a process that starts later tells the same")
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

package connect

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"millrace/services/connect/cluster"
)

// fragile returns a session whose outbox panics when it gets a push, and whose window panics when something is returned to
// it. What its client is sent is not written.
func fragile() *session {
	gw := &Gateway{cfg: Config{}.withDefaults(), metrics: newMetrics(nil, nil), nodes: cluster.NewNodes(slog.New(slog.DiscardHandler))}
	s := &session{gw: gw, log: slog.New(slog.DiscardHandler)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	conn, _ := net.Pipe()
	s.out = &outbox{
		conn: conn, maxBytes: 1 << 20, spawn: func(func()) {}, overflow: func() { panic("at the disco") },
		writers: &writers{}, done: make(chan struct{}),
	}
	s.lanes = lanes{session: s}
	return s
}

func requireInternalError(t *testing.T, s *session) {
	t.Helper()
	require.Equal(t, websocket.FormatCloseMessage(1011, "internal error"), s.out.final)
	require.Error(t, s.ctx.Err())
}

func TestPanicOverADeliveryEndsTheSessionThatItWasForAlone(t *testing.T) {
	b := newBench(t, "u:1", "u:1", "u:1")
	victim := &subscriber{session: fragile(), user: 1}
	b.join(victim, nil)
	victim.buffering, victim.skipped = false, nil
	b.push(0, 3, 1, "u:1")
	b.wants("u:1", "u:1", "u:1")
	requireInternalError(t, victim.session)
	require.Equal(t, int64(3), b.covered()[0])
}

func TestPanicOverTheAnswerToABatchEndsItsSessionAlone(t *testing.T) {
	s := fragile()
	m := &outgoing{verb: "send", at: time.Now().Add(-time.Hour)}
	s.lanes.add("u:1:2", m) // no node takes it, and its deadline has passed
	require.Eventually(t, func() bool { return s.ctx.Err() != nil }, 30*time.Second, time.Millisecond)
	requireInternalError(t, s)
	require.True(t, s.lanes.mu.TryLock(), "no lock is left held")
	require.True(t, s.out.mu.TryLock(), "no lock is left held")
}

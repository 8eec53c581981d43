package connect_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"millrace/infra/panics"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// panicky is a connection to a node. Once, it panics in a call or stream whose name has the suffix armed, either before the
// call or on its first answer.
type panicky struct {
	cluster.Conn
	armed atomic.Pointer[string]
}

func (c *panicky) arm(call string) { c.armed.Store(&call) }

func (c *panicky) panicAt(method string) {
	if call := c.armed.Load(); call != nil && strings.HasSuffix(method, *call) && c.armed.CompareAndSwap(call, nil) {
		panic("at the disco")
	}
}

func (c *panicky) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c.panicAt(method)
	return c.Conn.Invoke(ctx, method, args, reply, opts...)
}

func (c *panicky) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := c.Conn.NewStream(ctx, desc, method, opts...)
	return &panickyStream{stream, c, method}, err
}

type panickyStream struct {
	grpc.ClientStream
	conn   *panicky
	method string
}

func (s *panickyStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.conn.panicAt(s.method)
	return err
}

func TestPanicEndsNoMoreThanItBelongsTo(t *testing.T) {
	for name, test := range map[string]struct {
		where  string
		armed  string // the call that panics
		frame  string // of the client that it happens to
		closed bool   // with 1011
	}{
		"reader":            {panics.Session, "", `{"id":1,"connect":{"token":"panic"}}`, true},
		"request":           {panics.Session, "History", `{"id":2,"history":{"conversation":"u:1:2"}}`, true},
		"connecting":        {panics.Session, "Sync", `{"id":1,"connect":{"token":"1"}}`, true},
		"stream to message": {panics.Uplink, "SendBatches", `{"id":2,"send":{"to":2,"content":"lost"}}`, false},
		"stream to push":    {panics.Attach, "Attach", `{"id":2,"send":{"to":2,"content":"pushed"}}`, false},
		"lookout":           {panics.Background, "Ends", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			contain := panics.New(reg, slog.New(slog.DiscardHandler))
			w := newWorld(t, 4)
			push := w.newPushNode(0, 1, 2, 3)
			conns := []*panicky{{Conn: serveMessages(t, &messageNode{w: w})}, {Conn: servePushes(t, push)}}
			r := start(t, connect.Config{Panics: contain}, []cluster.Conn{conns[0]}, []cluster.Conn{conns[1]})
			require.Eventually(t, func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return len(push.attached) == 1
			}, patience, time.Millisecond)
			other, _ := r.connect(3)
			victim := r.dial()
			if strings.Contains(test.frame, `"id":2`) {
				victim, _ = r.connect(1)
			}
			if test.armed != "" {
				for _, conn := range conns {
					conn.arm(test.armed)
				}
			}
			if test.frame != "" {
				victim.send("%s", test.frame)
			}
			if test.closed {
				code, reason := victim.closedWith()
				require.Equal(t, 1011, code)
				require.Equal(t, "internal error", reason)
			}
			require.Eventually(t, func() bool { return panicsIn(t, reg, test.where) == 1 }, patience, time.Millisecond)
			for _, conn := range conns {
				conn.armed.Store(nil) // otherwise the other end might panic too
			}

			// Other sessions go on, and new ones can connect.
			next, _ := r.connect(4)
			for i, c := range []*client{other, next} {
				require.Eventually(t, func() bool {
					c.send(`{"id":%d,"send":{"to":%d,"content":"on"}}`, 10+i, 3+i)
					for {
						f := c.read()
						switch {
						case f.Sent != nil:
							return true
						case f.Error != nil:
							return false
						}
					}
				}, patience, 10*time.Millisecond)
			}
			require.Equal(t, 1, int(total(t, reg)))
		})
	}
}

func panicsIn(t *testing.T, reg *prometheus.Registry, where string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == where {
			return m.GetCounter().GetValue()
		}
	}
	require.Fail(t, fmt.Sprint("no series ", where))
	return 0
}

func total(t *testing.T, reg *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, m := range families[0].GetMetric() {
		n += m.GetCounter().GetValue()
	}
	return n
}

package connect_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// historyNode answers every page of history in full.
type historyNode struct{ *messageNode }

func (historyNode) History(context.Context, *millracev1.HistoryRequest) (*millracev1.HistoryResponse, error) {
	page := &millracev1.HistoryResponse{More: true}
	for i := range int64(15) {
		page.Messages = append(page.Messages, &millracev1.StoredMessage{
			Seq: i + 1, MessageId: fmt.Sprint(i), From: 1, To: 2, Content: strings.Repeat("x", 32<<10), MessageType: 1,
		})
	}
	return page, nil
}

// What a client asks for delays the reading of its requests, and ends nothing.
func TestAHundredPipelinedPagesOfHistoryAreAnswered(t *testing.T) {
	w := newWorld(t, 1)
	r := start(t, connect.Config{}, []cluster.Conn{serveMessages(t, historyNode{&messageNode{w: w}})}, []cluster.Conn{servePushes(t, w.newPushNode(0))})
	c, _ := r.connect(1)
	for i := range 100 {
		c.send(`{"id":%d,"history":{"conversation":"u:1:2","limit":200}}`, i+2)
	}
	answered := map[int64]bool{}
	for range 100 {
		f := c.read()
		require.NotNil(t, f.Messages, f.raw)
		answered[f.ID] = true
	}
	require.Len(t, answered, 100)
}

// dialStalled connects user 1 through a socket with a small window, and reads nothing but the answer to connect.
func dialStalled(t *testing.T, r *rig) *client {
	t.Helper()
	dialer := websocket.Dialer{NetDialContext: (&net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		require.NoError(t, failed)
		return err
	}}).DialContext}
	conn, response, err := dialer.DialContext(t.Context(), r.url, nil)
	require.NoError(t, err)
	_ = response.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	c := &client{t: t, conn: conn}
	c.send(`{"id":1,"connect":{"token":"1"}}`)
	require.NotNil(t, c.read().Connected)
	return c
}

func TestAStalledReaderIsToldWhyItIsClosedIfItsWindowOpensInTime(t *testing.T) {
	for name, test := range map[string]struct {
		write time.Duration
		told  bool
	}{
		"it opens":          {patience, true},
		"it stays too long": {200 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := prometheus.NewRegistry()
			s := startSimple(t, connect.Config{
				Metrics: reg, OutboxFrames: 16, WriteTimeout: test.write, CloseTimeout: 100 * time.Millisecond,
				// A pong to a socket that is closed already would reset the connection and discard what the client has not
				// read.
				Ping: time.Hour,
			})
			c := dialStalled(t, s.rig)
			closes := func() float64 { return closesWith(t, reg, "4008") + closesWith(t, reg, "1006") }
			for i := 0; closes() == 0; i++ {
				s.w.say(2, 1, fmt.Sprint(i, strings.Repeat("x", 32<<10-10)))
			}
			<-time.After(500 * time.Millisecond) // longer than the client has to answer a close frame, and than the shorter write timeout
			var err error
			for err == nil {
				_, err = c.next()
			}
			// Without a close frame the connection ends, or is reset.
			require.Equal(t, test.told, websocket.IsCloseError(err, 4008), err)
		})
	}
}

// closesWith returns how many connections were closed with the code.
func closesWith(t *testing.T, reg *prometheus.Registry, code string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "millrace_closes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == code {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

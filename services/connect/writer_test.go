package connect

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// brokenConn panics when it is written to for the first time.
type brokenConn struct {
	net.Conn
	written atomic.Bool
}

func (c *brokenConn) Write(b []byte) (int, error) {
	if !c.written.Swap(true) {
		panic("at the disco")
	}
	return c.Conn.Write(b)
}

func TestPanicOfTheWriterEndsItsConnection(t *testing.T) {
	ours, theirs := net.Pipe()
	s := &session{gw: &Gateway{}}
	s.out = &outbox{
		conn: &brokenConn{Conn: ours}, maxFrames: 10, maxBytes: 1000, timeout: time.Minute, spawn: s.spawnWriter,
		buffers: &sync.Pool{New: func() any { return new([]byte) }}, done: make(chan struct{}),
	}
	s.out.text([]byte("x"))
	got, err := io.ReadAll(theirs)
	require.NoError(t, err)
	want := appendFrame(nil, outFrame{op: websocket.CloseMessage, payload: websocket.FormatCloseMessage(1011, "internal error")})
	require.Equal(t, want, got)
	<-s.out.done
	s.wg.Wait()
	s.out.text([]byte("y"))
	require.False(t, s.out.finish(websocket.CloseGoingAway, "", false), "it has ended")
}

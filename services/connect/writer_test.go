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

func TestWhatIsHeldIsWrittenTogetherOnceWritingBegins(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := &session{gw: &Gateway{}}
	s.out = &outbox{
		conn: ours, maxFrames: 3, maxBytes: 1000, timeout: time.Minute, spawn: s.spawnWriter, overflow: func() { s.out.drop() },
		buffers: &sync.Pool{New: func() any { return new([]byte) }}, done: make(chan struct{}),
	}
	held := func(payload string) outFrame { return outFrame{op: websocket.TextMessage, payload: []byte(payload)} }
	require.True(t, s.out.hold(held("a")))
	require.False(t, s.out.hold(held("b")), "the first one has to begin")
	require.False(t, s.out.writing)
	s.out.begin()
	got := make([]byte, 100)
	n, err := theirs.Read(got)
	require.NoError(t, err)
	require.Equal(t, appendFrame(appendFrame(nil, held("a")), held("b")), got[:n])
	s.wg.Wait()

	require.True(t, s.out.hold(held("c")))
	s.out.put(held("d"))
	require.False(t, s.out.writing, "whoever holds the first one has to begin")
	s.out.begin()
	n, err = theirs.Read(got)
	require.NoError(t, err)
	require.Equal(t, appendFrame(appendFrame(nil, held("c")), held("d")), got[:n])
	s.wg.Wait()
	s.out.begin() // has nothing to do

	for range 3 {
		s.out.hold(held("e"))
	}
	require.False(t, s.out.hold(held("f")), "too many wait, the connection is given up")
	<-s.out.done
}

package connect

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
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
		writers: &writers{}, done: make(chan struct{}),
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
		writers: &writers{}, done: make(chan struct{}),
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

// socketPair returns an outbox over one end of a TCP connection, and the other end.
func socketPair(t *testing.T, w *writers) (*session, net.Conn) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	theirs, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	ours, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = ours.Close()
		_ = theirs.Close()
	})
	for _, end := range []net.Conn{ours, theirs} {
		tcp, ok := end.(*net.TCPConn)
		require.True(t, ok)
		// Small, so that little fills them, but not smaller than a segment on loopback, for which the kernel would wait by timers.
		require.NoError(t, tcp.SetReadBuffer(1<<16))
		require.NoError(t, tcp.SetWriteBuffer(1<<16))
	}
	conn := &strictConn{Conn: ours}
	s := &session{gw: &Gateway{}}
	s.out = &outbox{
		conn: conn, socket: socketOf(conn), writers: w, maxFrames: 100, maxBytes: 1 << 30, timeout: time.Minute, spawn: s.spawnWriter,
		done: make(chan struct{}),
	}
	require.NotNil(t, s.out.socket)
	return s, theirs
}

func TestAClientThatDoesNotReadHasAWriterOfItsOwnAndGetsEverythingInOrder(t *testing.T) {
	w := &writers{}
	slow, reader := socketPair(t, w)
	payload := bytes.Repeat([]byte("x"), 1<<16)
	var want []byte
	for i := range 20 { // more than sockets take
		payload[0] = byte('a' + i)
		f := outFrame{op: websocket.TextMessage, payload: bytes.Clone(payload)}
		want = appendFrame(want, f)
		slow.out.put(f)
	}
	w.wg.Wait() // they do not wait for the client
	require.True(t, slow.out.writing)
	require.Positive(t, slow.out.waits())

	other, quick := socketPair(t, w)
	other.out.text([]byte("y"))
	got := make([]byte, 3)
	_, err := io.ReadFull(quick, got)
	require.NoError(t, err)
	require.Equal(t, appendFrame(nil, outFrame{op: websocket.TextMessage, payload: []byte("y")}), got)

	got = make([]byte, len(want))
	_, err = io.ReadFull(reader, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	slow.wg.Wait()
	slow.out.expires = time.Unix(1, 0) // as after a while
	require.NoError(t, slow.out.conn.SetWriteDeadline(slow.out.expires))
	slow.out.text([]byte("z"))
	_, err = io.ReadFull(reader, got[:3])
	require.NoError(t, err)
	require.Equal(t, byte('z'), got[2])
	w.wg.Wait()
	slow.wg.Wait()
	require.False(t, slow.out.writing)
	require.Zero(t, slow.out.waits())
}

func TestAClientThatNeverReadsIsGivenUp(t *testing.T) {
	w := &writers{}
	s, _ := socketPair(t, w)
	s.out.timeout = 10 * time.Millisecond
	s.out.text(make([]byte, 1<<20))
	require.Eventually(t, func() bool {
		s.out.mu.Lock()
		defer s.out.mu.Unlock()
		return s.out.closed
	}, 30*time.Second, time.Millisecond)
	<-s.out.done
}

func TestFramesForManyAreWrittenByAFewWriters(t *testing.T) {
	w := &writers{}
	var outs []*outbox
	var ends []net.Conn
	for range 20 {
		s, end := socketPair(t, w)
		outs, ends = append(outs, s.out), append(ends, end)
	}
	for range 50 {
		for _, o := range outs {
			o.text([]byte("x"))
		}
		w.mu.Lock()
		require.LessOrEqual(t, w.running, runtime.GOMAXPROCS(0))
		w.mu.Unlock()
	}
	w.wg.Wait()
	require.Zero(t, w.running)
	for i, end := range ends {
		got := make([]byte, 3*50)
		_, err := io.ReadFull(end, got)
		require.NoError(t, err)
		require.Equal(t, 50, bytes.Count(got, []byte("x")))
		outs[i].finish(websocket.CloseNormalClosure, "", false)
		<-outs[i].done
	}
	w.wg.Wait()
}

// brokenSocket panics when it is written to.
type brokenSocket struct{ syscall.RawConn }

func (brokenSocket) Write(func(uintptr) bool) error { panic("at the disco") }

func TestPanicOfAWriterEndsOneConnectionAndNoOther(t *testing.T) {
	w := &writers{}
	broken, end := socketPair(t, w)
	fine, other := socketPair(t, w)
	broken.out.socket = brokenSocket{}
	broken.out.text([]byte("x"))
	fine.out.text([]byte("y"))
	got, err := io.ReadAll(end)
	require.NoError(t, err)
	require.Equal(t, appendFrame(nil, outFrame{op: websocket.CloseMessage, payload: websocket.FormatCloseMessage(1011, "internal error")}), got)
	_, err = io.ReadFull(other, make([]byte, 3))
	require.NoError(t, err)
	<-broken.out.done
	broken.wg.Wait()
	w.wg.Wait()
}

package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the other end of the client's connections, over pipes in a synctest bubble. The test itself plays the server,
// time is that of the bubble, and synctest reports a deadlock if something never comes.
type server struct {
	t        *testing.T
	accepted chan *peer
	down     atomic.Bool // set while no connection can be made
}

func newServer(t *testing.T) *server { return &server{t: t, accepted: make(chan *peer)} }

func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if s.down.Load() {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	go s.handshake(ours)
	return theirs, ctx.Err()
}

func (s *server) handshake(conn net.Conn) {
	buffered := bufio.NewReader(conn)
	r, err := http.ReadRequest(buffered)
	if err != nil {
		return
	}
	ws, err := (&websocket.Upgrader{Subprotocols: []string{Subprotocol}}).Upgrade(hijacked{conn, buffered}, r, nil)
	if err != nil {
		return
	}
	p := &peer{t: s.t, ws: ws, in: make(chan []byte, 100)}
	go p.read()
	s.accepted <- p
}

// accept waits for the next connection.
func (s *server) accept() *peer { return <-s.accepted }

// hijacked is a response writer for a connection without an http.Server.
type hijacked struct {
	net.Conn
	in *bufio.Reader
}

func (h hijacked) Header() http.Header { return http.Header{} }
func (h hijacked) WriteHeader(int)     {}
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.Conn, bufio.NewReadWriter(h.in, bufio.NewWriter(h.Conn)), nil
}

// peer is the server's end of one connection.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
	in chan []byte // closed when the connection ends
	// ended is the reason; it may be read once in is closed.
	ended error
}

func (p *peer) read() {
	defer close(p.in)
	for {
		_, text, err := p.ws.ReadMessage()
		if err != nil {
			p.ended = err
			return
		}
		p.in <- text
	}
}

// next returns the next request.
func (p *peer) next() (id int64, verb string, body string) {
	text, ok := <-p.in
	require.True(p.t, ok, "the connection has ended: %v", p.ended)
	var frame map[string]json.RawMessage
	require.NoError(p.t, json.Unmarshal(text, &frame))
	require.NoError(p.t, json.Unmarshal(frame["id"], &id))
	delete(frame, "id")
	require.Len(p.t, frame, 1)
	for v, b := range frame {
		verb, body = v, string(b)
	}
	return id, verb, body
}

// message returns the next request, which must be a send.
func (p *peer) message() (id int64, m Send) {
	id, verb, body := p.next()
	require.Equal(p.t, "send", verb)
	require.NoError(p.t, json.Unmarshal([]byte(body), &m))
	return id, m
}

// connect answers the connect request and returns it.
func (p *peer) connect(cursor string) Connect {
	id, verb, body := p.next()
	require.Equal(p.t, "connect", verb)
	p.writes(`{"id":%d,"connected":{"user":1001,"session":"s","cursor":%s,"recovered":true,"complete":true,"ping_seconds":25}}`, id, cursor)
	var r Connect
	require.NoError(p.t, json.Unmarshal([]byte(body), &r))
	return r
}

func (p *peer) writes(format string, args ...any) {
	require.NoError(p.t, p.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)))
}

func (p *peer) accepts(id int64) {
	p.writes(`{"id":%d,"sent":{"message_id":"m%d","conversation":"u:1001:1002","timestamp":1642678800}}`, id, id)
}

func (p *peer) refuses(id int64, code string) {
	p.writes(`{"id":%d,"error":{"code":%q,"message":"no"}}`, id, code)
}

func (p *peer) pushes(pos, messageID string) {
	_, seq, _ := strings.Cut(pos, ":")
	p.writes(`{"push":{"type":"new_message","pos":%q,"conversation":"u:1001:1002","seq":%s,"message":{"message_id":%q,"from":1002,"to":1001,"content":"hello","message_type":1,"timestamp":1642678800}}}`,
		pos, seq, messageID)
}

func (p *peer) closes(code int) {
	require.NoError(p.t, p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Time{}))
}

// end cuts the connection.
func (p *peer) end() { _ = p.ws.Close() }

// bubble runs a test in a synctest bubble.
func bubble(t *testing.T, test func(t *testing.T, s *server)) {
	synctest.Test(t, func(t *testing.T) { test(t, newServer(t)) })
}

// listener is a client with all that its functions were called with.
type listener struct {
	*Client
	tokens     int
	pushed     []string // message ids, or types
	connected  []Connected
	waits      []time.Duration
	violations []string
}

// dialed connects a client to the server; change may be nil.
func dialed(t *testing.T, s *server, change func(*Config)) (*listener, *peer) {
	l := &listener{}
	cfg := Config{
		URL: "ws://millrace.test/ws", NetDial: s.dial,
		Token: func(context.Context) (string, error) {
			l.tokens++
			return fmt.Sprintf("token-%d", l.tokens), nil
		},
		OnPush: func(p Push) {
			if p.Message != nil {
				l.pushed = append(l.pushed, p.Message.MessageID)
			} else {
				l.pushed = append(l.pushed, string(p.Type))
			}
		},
		OnConnect:    func(c Connected) { l.connected = append(l.connected, c) },
		OnDisconnect: func(_ error, wait time.Duration) { l.waits = append(l.waits, wait) },
		OnViolation:  func(what string) { l.violations = append(l.violations, what) },
	}
	if change != nil {
		change(&cfg)
	}
	dialing := make(chan error)
	go func() {
		var err error
		l.Client, err = Dial(t.Context(), cfg)
		dialing <- err
	}()
	p := s.accept()
	p.connect(`{"0":10,"7":70}`)
	require.NoError(t, <-dialing)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, p
}

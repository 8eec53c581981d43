// Package connect is the WebSocket gateway. It keeps the connections of clients, and uses neither the log nor the store
// itself.
//
// Sends go up: the reader of a session decodes the frame, the lane of the conversation keeps the order, an uplink (package
// cluster) carries the batches of all lanes to a message node, and the answer goes back through the session's outbox.
// Deliveries come down: push nodes send spans of the log's partitions. The hub makes sure that each span follows the one
// before, reads from the log what is missing, and appends the deliveries to the outboxes of the sessions that subscribe. The
// feed of a connecting session delivers what the client missed, while the hub buffers for it what is new.
package connect

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/semaphore"

	"millrace/infra/auth"
	"millrace/services/connect/cluster"
)

// Subprotocol is the WebSocket subprotocol that the gateway speaks.
const Subprotocol = "millrace.v1.json"

const (
	parallelSyncs   = 64 // how many sessions may connect at the same time
	parallelRetries = 16 // how many sessions may ask for missed records in the background
	readBuffer      = 1024
)

// Verifier finds out whose token it is.
type Verifier interface {
	// Verify returns the identity of the token's user. The client sees the text of its error.
	Verify(ctx context.Context, token string) (auth.Identity, error)
}

// Gateway is the http.Handler of the WebSocket endpoint. Run does its work, and Drain ends it.
type Gateway struct {
	cfg      Config
	verifier Verifier
	log      *slog.Logger
	upgrader websocket.Upgrader
	messages *cluster.Lister
	pushes   *cluster.Lister
	apart    atomic.Int64 // push nodes that are known but not attached
	nodes    *cluster.Nodes
	hub      *hub
	pulse    *pulse
	rates    *rates
	metrics  *metrics
	writers  writers
	scratch  sync.Pool // of the readers
	syncs    *semaphore.Weighted
	retries  *semaphore.Weighted

	// ctx ends when everything is drained.
	ctx  context.Context
	stop context.CancelFunc

	mu       sync.Mutex
	sessions map[*session]struct{}
	draining bool
	wg       sync.WaitGroup // readers
}

// New returns a gateway that sends to the message nodes and attaches to the push nodes.
func New(cfg Config, verifier Verifier, messages, pushes *cluster.Lister, log *slog.Logger) *Gateway {
	cfg = cfg.withDefaults()
	g := &Gateway{
		cfg: cfg, verifier: verifier, log: log, messages: messages, pushes: pushes,
		nodes:    cluster.NewNodes(log),
		pulse:    &pulse{every: cfg.Ping},
		rates:    &rates{sends: cfg.SendRate, connections: cfg.UserConnections, users: map[int64]*userRate{}},
		writers:  writers{panics: cfg.Panics},
		scratch:  sync.Pool{New: func() any { return new(scratch) }},
		syncs:    semaphore.NewWeighted(parallelSyncs),
		retries:  semaphore.NewWeighted(parallelRetries),
		sessions: map[*session]struct{}{},
	}
	messages.Panics, pushes.Panics = cfg.Panics, cfg.Panics
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.metrics = newMetrics(cfg.Metrics, g)
	g.hub = newHub(g.ctx, cfg, g.nodes, g.metrics, log)
	g.upgrader = websocket.Upgrader{
		HandshakeTimeout: cfg.WriteTimeout, ReadBufferSize: readBuffer, WriteBufferPool: &sync.Pool{},
		Subprotocols: []string{Subprotocol}, CheckOrigin: g.originAllowed,
	}
	return g
}

// Run keeps the streams to message and push nodes and pings the clients until the context ends. It returns when all that it
// has started has ended.
func (g *Gateway) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { g.messages.Run(ctx, g.log, g.nodes.Serve) })
	wg.Go(func() { g.pushes.Run(ctx, g.log, g.keepAttached) })
	for _, loop := range []func(context.Context){g.pulse.run, g.hub.run, g.lookOut} {
		wg.Go(func() { g.cfg.Panics.Keep(ctx, loop) })
	}
	wg.Wait()
	return nil
}

// ServeHTTP upgrades the connection and returns. The session goes on in goroutines of its own.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		http.Error(w, "the server is going away", http.StatusServiceUnavailable)
		return
	}
	served := false
	defer func() { // runs also if net/http contains a panic
		if !served {
			g.wg.Done()
		}
	}()
	conn, err := g.upgrade(w, r)
	if err != nil {
		g.log.Debug("no WebSocket", "remote", r.RemoteAddr, "error", err)
		return
	}
	s := newSession(g, conn)
	served = true
	go g.serve(s)
}

// upgrade makes the request a WebSocket, or responds with the reason why not.
func (g *Gateway) upgrade(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	if !r.ProtoAtLeast(1, 1) {
		http.Error(w, "a WebSocket needs HTTP/1.1", http.StatusBadRequest)
		return nil, errors.New("HTTP before 1.1")
	}
	// The list may be spread over several lines (RFC 9110, 5.3), of which gorilla reads only the first.
	const protocols = "Sec-Websocket-Protocol"
	if lines := r.Header.Values(protocols); len(lines) > 1 {
		r.Header.Set(protocols, strings.Join(lines, ", "))
	}
	return g.upgrader.Upgrade(strictWriter{w}, r, nil)
}

// enter counts a new connection and reports true, unless the gateway is draining.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return false
	}
	g.wg.Add(1)
	return true
}

func (g *Gateway) serve(s *session) {
	defer g.wg.Done()
	if g.note(s) {
		s.close(websocket.CloseGoingAway, goingAway)
	}
	g.pulse.add(s)
	s.contain(s.run)
	g.pulse.remove(s)
	g.forget(s)
}

// note adds the session, and reports whether the gateway is draining.
func (g *Gateway) note(s *session) (draining bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[s] = struct{}{}
	return g.draining
}

func (g *Gateway) forget(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, s)
}

// Drain refuses new connections, closes every session with 1001 as soon as its sends are answered, and waits until nothing is
// left of them. Run must still be running. When the context ends, Drain cuts the connections.
func (g *Gateway) Drain(ctx context.Context) {
	g.mu.Lock()
	g.draining = true
	var closing sync.WaitGroup
	for s := range g.sessions {
		closing.Go(func() { s.contain(func() { s.drain(ctx) }) })
	}
	g.mu.Unlock()

	stop := context.AfterFunc(ctx, g.cut)
	g.wg.Wait()
	g.writers.wg.Wait()
	stop()
	closing.Wait()
	g.stop()
	g.hub.wg.Wait()
}

// cut ends the connections without waiting for the clients.
func (g *Gateway) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		_ = s.conn.Close()
	}
}

// newID returns an id of 32 hexadecimal digits: the time in microseconds, so that ids ascend, and 64 random bits.
func newID() string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(time.Now().UnixMicro()))
	_, _ = rand.Read(id[8:]) // it never fails
	return hex.EncodeToString(id[:])
}

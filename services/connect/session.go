package connect

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"millrace/infra/auth"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	floodFactor   = 10  // frames per send that the rate allows
	controlRate   = 20  // pings and pongs of a client per second
	controlBurst  = 100 // and at once
	parallelCalls = 16  // unanswered requests of a connection that are not changes
	goingAway     = "the server is going away"
	expiredReason = "the token has expired"
)

// session is one WebSocket connection. Its reader goroutine lives as long as the session and handles the client's frames one
// after the other. Everything else that writes to the client does so through the outbox.
type session struct {
	gw   *Gateway
	conn *websocket.Conn
	out  *outbox
	id   string // for logs
	log  *slog.Logger

	// ctx ends when the connection is being closed.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // for writer, requests and feed

	seen    atomic.Int64 // when the client last showed a sign of life, in Unix nanoseconds
	closing atomic.Bool

	frames   *rate.Limiter // those of the connection; once connected those of the user
	controls *rate.Limiter
	window   *semaphore.Weighted // unanswered changes
	calls    chan struct{}       // unanswered other requests
	lanes    lanes

	acquaintances acquaintances

	// The reader sets these when the session is connected.
	identity auth.Identity
	sender   *millracev1.Sender
	sub      *subscriber
	user     *userRate // shared by the user's sessions

	slot int // of the pulse

	// Only the reader uses these. The timer is the timeout for connecting, and then the expiry of the token.
	timer     *time.Timer
	connectBy time.Time
}

func newSession(gw *Gateway, conn *websocket.Conn) *session {
	s := &session{
		gw: gw, conn: conn, id: newID(), log: gw.log,
		frames:   rate.NewLimiter(rate.Limit(floodFactor*gw.cfg.SendRate), floodFactor*gw.cfg.SendRate),
		controls: rate.NewLimiter(controlRate, controlBurst),
		window:   semaphore.NewWeighted(int64(gw.cfg.Unanswered)),
		calls:    make(chan struct{}, parallelCalls),
	}
	s.ctx, s.cancel = context.WithCancel(gw.ctx)
	s.lanes = lanes{session: s}
	s.out = &outbox{
		conn: conn.NetConn(), socket: socketOf(conn.NetConn()), writers: &gw.writers,
		maxFrames: gw.cfg.OutboxFrames, maxBytes: gw.cfg.OutboxBytes, timeout: gw.cfg.WriteTimeout, closeTimeout: gw.cfg.CloseTimeout,
		spawn:    s.spawnWriter,
		overflow: func() { s.closeNow(closeSlow, "too slow: resume with the cursor") },
		progress: s.alive, // the reader may be waiting and see no other sign of the client
		done:     make(chan struct{}),
	}
	s.alive()
	s.connectBy = time.Now().Add(gw.cfg.ConnectTimeout)
	s.timer = time.NewTimer(0)
	return s
}

// alive notes a sign of life of the client.
func (s *session) alive() { s.seen.Store(time.Now().UnixNano()) }

// close ends the connection after what waits to be written. It never blocks, and only the first close has an effect.
func (s *session) close(code int, reason string) { s.finish(code, reason, false) }

// closeNow ends the connection instead of writing what waits.
func (s *session) closeNow(code int, reason string) { s.finish(code, reason, true) }

func (s *session) finish(code int, reason string, discard bool) {
	if !s.out.finish(code, reason, discard) {
		return
	}
	s.closing.Store(true)
	s.gw.metrics.close(code)
	s.cancel()
	s.log.Debug("closing session", "session", s.id, "code", code, "reason", reason)
}

// run reads until the connection ends, and then waits for everything that belongs to the session.
func (s *session) run() {
	s.awaitConnect()
	err := s.readContained()
	s.timer.Stop()
	defer s.wg.Wait()
	defer s.cancel()
	defer s.leave()
	s.hangUp(err)
}

// leave releases what the session shares with others.
func (s *session) leave() {
	if s.sub != nil {
		defer s.gw.rates.leave(s.identity.User, s.sub.device)
		s.gw.hub.leave(s.sub)
	}
}

// closeAt closes the session at the time, instead of what the timer was set to before. With the zero time it never does.
func (s *session) closeAt(at time.Time, code int, reason string) {
	s.timer.Stop()
	if !at.IsZero() {
		s.timer = time.AfterFunc(time.Until(at), func() { s.contain(func() { s.close(code, reason) }) })
	}
}

func (s *session) awaitConnect() { s.closeAt(s.connectBy, closeUnauthenticated, "no connect in time") }

func (s *session) expireAt(at time.Time) { s.closeAt(at, closeExpired, expiredReason) }

// drain closes the session once its changes are answered.
func (s *session) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.gw.cfg.AnswerTimeout)
	defer cancel()
	// With the whole window no change is unanswered. If that takes too long, the rest stays unanswered.
	_ = s.window.Acquire(ctx, int64(s.gw.cfg.Unanswered))
	s.close(websocket.CloseGoingAway, goingAway)
}

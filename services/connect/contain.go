package connect

import (
	"context"

	"github.com/gorilla/websocket"

	"millrace/events"
	"millrace/infra/panics"
)

// A panic ends no more than it has to. In code that runs for a session it closes the session with 1011. In a stream to
// another node it breaks the stream, which is opened again. Loops start again. Shared state is changed under the hub's lock,
// which is released even then, and in an order that loses nothing: a partition counts as covered only after its deliveries
// were given to the sessions.

const internalError = "internal error"

// contain runs code of this session only. If it panics the session is closed.
func (s *session) contain(f func()) {
	if s.gw.cfg.Panics.Do(panics.Session, f) != nil {
		s.closeNow(websocket.CloseInternalServerErr, internalError)
	}
}

// spawn runs contain in a goroutine that the session waits for.
func (s *session) spawn(f func()) { s.wg.Go(func() { s.contain(f) }) }

// apart is like contain, but f runs on a stack of its own: the reader would keep a stack that has become large for as long as it
// is idle, and all readers' stacks would be half of what idle connections take.
func (s *session) apart(f func()) {
	done := make(chan struct{})
	s.wg.Go(func() {
		defer close(done)
		s.contain(f)
	})
	<-done
}

// spawnWriter runs the writer of the outbox. If it panics, nothing that waits is written any more.
func (s *session) spawnWriter(write func()) {
	s.wg.Go(func() {
		if s.gw.cfg.Panics.Do(panics.Session, write) != nil {
			s.out.abandon(websocket.CloseInternalServerErr, internalError)
		}
	})
}

// readContained reads until the connection ends.
func (s *session) readContained() (err error) {
	if panicked := s.gw.cfg.Panics.Do(panics.Session, func() { err = s.read() }); panicked != nil {
		return panicked
	}
	return err
}

// giveContained gives a session a delivery. A panic ends only that session.
func (h *hub) giveContained(sub *subscriber, pos events.Position, push []byte, group int64) {
	defer func() {
		if v := recover(); v != nil {
			_ = h.panics.Recovered(panics.Session, v) // counted; what follows is the session's end
			sub.session.closeNow(websocket.CloseInternalServerErr, internalError)
		}
	}()
	buffered := len(sub.buffer)
	push = sub.give(pos, push, group, h.limit)
	var span *deliverSpan
	if h.tracing.ctx != nil && (push != nil || len(sub.buffer) > buffered) {
		span = h.startDeliver(sub, pos)
	}
	switch {
	case push != nil:
		h.write(sub.session.out, push, span)
	case span != nil:
		sub.buffer[len(sub.buffer)-1].span = span
	}
}

// fillContained fills the gap of a partition and starts again after a panic, because nobody else would fill it.
func (h *hub) fillContained(p *partition) {
	h.panics.Keep(h.ctx, func(context.Context) { h.fillFromLog(p) })
}

// containError turns a panic in the code of a stream into an error.
func containError(p *panics.Panics, where string, f func() error) (err error) {
	if panicked := p.Do(where, func() { err = f() }); panicked != nil {
		return panicked
	}
	return err
}

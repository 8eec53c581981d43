package connect

import (
	"context"

	"github.com/gorilla/websocket"

	"millrace/events"
	"millrace/infra/panics"
)

// A panic ends no more than it belongs to: what goes on for a session closes it with 1011, a stream to another node breaks
// and is made anew, and loops begin again. What is shared is changed under the hub's lock, which is never left held, and in
// an order that loses nothing: a partition counts as covered only once its deliveries were given.

const internalError = "internal error"

// contain runs what belongs to the session alone. If it panics the session is closed.
func (s *session) contain(f func()) {
	if s.gw.cfg.Panics.Do(panics.Session, f) != nil {
		s.closeNow(websocket.CloseInternalServerErr, internalError)
	}
}

// spawn is contain in a goroutine that the session waits for.
func (s *session) spawn(f func()) { s.wg.Go(func() { s.contain(f) }) }

// spawnWriter runs the outbox's writer. Without it nothing that waits is written any more.
func (s *session) spawnWriter(write func()) {
	s.wg.Go(func() {
		if s.gw.cfg.Panics.Do(panics.Session, write) != nil {
			s.out.abandon(websocket.CloseInternalServerErr, internalError)
		}
	})
}

// readContained reads as long as the connection lasts.
func (s *session) readContained() (err error) {
	if panicked := s.gw.cfg.Panics.Do(panics.Session, func() { err = s.read() }); panicked != nil {
		return panicked
	}
	return err
}

// giveContained brings the session a delivery. That it cannot be given to one session is no matter of the others.
func (h *hub) giveContained(sub *subscriber, pos events.Position, push []byte, group int64) {
	defer func() {
		if v := recover(); v != nil {
			_ = h.panics.Recovered(panics.Session, v) // counted; what follows is the session's end
			sub.session.closeNow(websocket.CloseInternalServerErr, internalError)
		}
	}()
	sub.give(pos, push, group, h.limit)
}

// fillContained fills the gap of a partition, however often that panics: nobody else would.
func (h *hub) fillContained(p *partition) {
	h.panics.Keep(h.ctx, func(context.Context) { h.fillFromLog(p) })
}

// containError makes an error of a panic of what runs a stream.
func containError(p *panics.Panics, where string, f func() error) (err error) {
	if panicked := p.Do(where, func() { err = f() }); panicked != nil {
		return panicked
	}
	return err
}

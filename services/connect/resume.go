package connect

import (
	"context"
	"errors"
	"time"

	"github.com/gorilla/websocket"

	"millrace/infra/auth"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// handleConnect makes the connection a session of its user. The order of the steps is what leaves no gap: the session
// buffers what arrives for its channels, the push nodes take up the interest, and only then the end of the log is read.
// What lies before that end comes from Sync, what lies behind it is in the buffer or still to come.
func (s *session) handleConnect(r request) {
	var b connectBody
	refused := r.into(&b)
	if s.sub != nil {
		refused = refuse(codeInvalid, "connected already")
	}
	if refused != nil {
		s.refuse(r.id, refused)
		return
	}
	s.timer.Stop() // it has come in time, however long the answer takes
	identity, err := s.verify(b.Token)
	if err != nil {
		s.refuse(r.id, refuse(codeUnauthenticated, err.Error()))
		s.close(closeUnauthenticated, "unauthenticated")
		return
	}
	user, refused := s.gw.rates.join(identity.User, b.Device)
	if refused != nil {
		s.gw.metrics.limited.WithLabelValues(limitedConnections).Inc()
		s.refuse(r.id, refused)
		s.close(closeFlood, refused.Message)
		return
	}
	sub := &subscriber{
		session: s, id: newID(), opened: time.Now(), user: identity.User, device: b.Device, wake: make(chan struct{}, 1),
	}
	answer, err := s.resume(sub, b.Cursor)
	if err != nil {
		s.gw.hub.leave(sub)
		s.gw.rates.leave(identity.User, b.Device)
		refused := asRefusal(err)
		s.refuse(r.id, refused)
		if refused.Code == codeInvalid {
			s.awaitConnect()
			return
		}
		s.log.Warn("cannot connect a session", "user", sub.user, "error", err)
		s.close(websocket.CloseGoingAway, "try again")
		return
	}
	s.sub, s.identity = sub, identity
	s.sender = &millracev1.Sender{User: identity.User, UserType: identity.UserType, Region: identity.Region}
	s.user, s.frames = user, user.frames
	s.expireAt(identity.Expires)
	s.gw.metrics.connect(b.Cursor != nil, answer)
	s.answer(r.id, "connected", s.connected(answer))
	s.gw.hub.feed(sub, newFeed(sub, answer), answer)
}

func (s *session) verify(token string) (auth.Identity, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.AnswerTimeout)
	defer cancel()
	return s.gw.verifier.Verify(ctx, token)
}

// resume subscribes the session and learns what it missed.
func (s *session) resume(sub *subscriber, cursor map[int32]int64) (*cluster.Synced, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.AnswerTimeout)
	defer cancel()
	if err := s.gw.syncs.Acquire(ctx, 1); err != nil {
		return nil, unavailable()
	}
	defer s.gw.syncs.Release(1)
	hub := s.gw.hub
	asking, enough := context.WithTimeout(ctx, s.gw.cfg.AnswerTimeout/3)
	groups, err := s.gw.nodes.Memberships(asking, sub.user)
	enough()
	if err != nil {
		s.log.Info("groups unknown", "user", sub.user, "error", err) // Sync tells them, or that they are not known
	}
	hub.join(sub, groups)
	hub.await(ctx)
	if sub.device != "" {
		hub.signal(sub.replacement())
	}
	answer, err := s.gw.nodes.Sync(ctx, &millracev1.SyncRequest{
		User: sub.user, Cursor: cursor, Resume: cursor != nil, Handled: hub.handled(),
	})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, unavailable()
		}
		return nil, err
	}
	hub.learnt(answer.Start.GetEnd())
	return answer, nil
}

type connectedBody struct {
	User        int64           `json:"user"`
	Session     string          `json:"session"`
	Cursor      map[int32]int64 `json:"cursor"`
	Recovered   bool            `json:"recovered"`
	Complete    bool            `json:"complete"`
	PingSeconds int             `json:"ping_seconds"`
}

func (s *session) connected(a *cluster.Synced) connectedBody {
	cursor := a.Start.GetCursor()
	if cursor == nil {
		cursor = map[int32]int64{}
	}
	return connectedBody{
		User: s.identity.User, Session: s.sub.id, Cursor: cursor, Recovered: a.Start.GetRecovered(), Complete: a.Complete(),
		PingSeconds: int(s.gw.cfg.Ping / time.Second),
	}
}

package connect

import (
	"context"
	"errors"
	"time"

	"github.com/gorilla/websocket"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// handleConnect makes the connection a session of its user. The order of its steps prevents gaps. First the session buffers
// what arrives on its channels, then the push nodes acknowledge the interest, and only then the end of the log is read. What
// lies before that end comes from Sync. What lies after it is in the buffer or still to come.
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
	s.timer.Stop() // the connect has come in time, however long its answer takes
	ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.AnswerTimeout)
	defer cancel()
	ctx, span := s.startSpan(ctx, r)
	if span != nil {
		defer span.End()
	}
	number := s.gw.hub.number()
	identity, err := s.gw.verifier.Verify(ctx, b.Token)
	if refused = refusedToken(err); refused != nil {
		s.refuse(r.id, refused)
		if refused.Code == codeUnavailable {
			s.close(websocket.CloseTryAgainLater, "try again")
		} else {
			s.close(closeUnauthenticated, "unauthenticated")
		}
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
		session: s, id: newID(), number: number, user: identity.User, device: b.Device, wake: make(chan struct{}, 1),
		userType: identity.UserType, region: identity.Region, issued: identity.Issued,
	}
	answer, err := s.resume(ctx, sub, b.Cursor)
	if err == nil && !s.gw.hub.accepts(sub, identity.Issued, answer.End.GetTokensRevokedBefore()) {
		err = errRevoked() // it was revoked meanwhile, or not known to be
	}
	// The device's older sessions may end only now, when nothing can fail any more.
	ends := identity.Ends()
	expired := !ends.IsZero() && !time.Now().Before(ends)
	if err != nil || expired || !s.gw.hub.establish(sub) {
		s.gw.hub.leave(sub)
		s.gw.rates.leave(identity.User, b.Device)
		s.cannotConnect(r.id, err)
		return
	}
	s.sub, s.identity = sub, identity
	s.sender = &millracev1.Sender{User: identity.User, UserType: identity.UserType, Region: identity.Region}
	s.user, s.frames = user, user.frames
	s.expireAt(identity.Ends())
	s.gw.metrics.connect(b.Cursor != nil, answer)
	s.answer(r.id, "connected", s.connected(answer))
	s.gw.hub.feed(sub, newFeed(sub, answer), answer)
}

// cannotConnect answers why there is no session: the error, or without one that the token has ended meanwhile or the session
// is being closed already.
func (s *session) cannotConnect(id int64, err error) {
	if err == nil {
		s.close(closeExpired, expiredReason)
		return
	}
	refused := asRefusal(err)
	s.refuse(id, refused)
	switch refused.Code {
	case codeInvalid:
		s.awaitConnect()
		return
	case codeUnauthenticated:
		s.close(closeUnauthenticated, refused.Message)
		return
	}
	s.log.Warn("cannot connect a session", "error", err)
	s.close(websocket.CloseTryAgainLater, "try again")
}

// resume subscribes the session and asks what it has missed. It refuses a revoked token before that, so that its user is not
// online for a moment, nor seen last then.
func (s *session) resume(ctx context.Context, sub *subscriber, cursor map[int32]int64) (*cluster.Synced, error) {
	if err := s.gw.syncs.Acquire(ctx, 1); err != nil {
		return nil, unavailable()
	}
	defer s.gw.syncs.Release(1)
	hub := s.gw.hub
	asking, enough := context.WithTimeout(ctx, s.gw.cfg.AnswerTimeout/3)
	groups, err := s.gw.nodes.Memberships(asking, sub.user)
	enough()
	if err != nil {
		s.log.Info("groups unknown", "user", sub.user, "error", err) // Sync returns them, or that they are not known
	}
	if !hub.accepts(sub, sub.issued, groups.GetTokensRevokedBefore()) {
		return nil, errRevoked()
	}
	hub.join(sub, groups.GetMemberships())
	hub.await(ctx)
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

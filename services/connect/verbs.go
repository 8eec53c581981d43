package connect

import (
	"context"

	"google.golang.org/grpc/metadata"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// handle handles one frame of the client in the reader's goroutine. Changes of a conversation go to the conversation's lane.
// Other requests that need a message node run concurrently.
func (s *session) handle(data []byte) {
	r, refused := decodeFrame(data)
	if refused == nil && s.sub != nil {
		refused = s.limit(r)
	}
	switch {
	case s.sub == nil && r.verb != "connect":
		s.close(closeUnauthenticated, "connect first")
	case refused != nil:
		s.refuse(r.id, refused)
	case r.verb == "connect":
		s.apart(func() { s.handleConnect(r) })
	case r.verb == "refresh":
		s.refresh(r)
	case r.verb == "ping":
		s.answer(r.id, "pong", struct{}{})
	case r.verb == "presence":
		s.presence(r)
	case r.verb == "typing":
		s.typing(r)
	case r.verb == "history", r.verb == "conversations", r.verb == "readers", r.verb == "blocked", r.verb == "group_info",
		r.verb == "push_subscribe", r.verb == "push_unsubscribe":
		s.call(r)
	default:
		s.change(r)
	}
}

// limit refuses the request if the user asks for too much of its kind.
func (s *session) limit(r request) *refusal {
	c, limited := classOf(r.verb)
	if !limited {
		return nil
	}
	refused := s.user.allow(c)
	if refused != nil {
		s.gw.metrics.limited.WithLabelValues(c.String()).Inc()
		if c == sends {
			s.gw.metrics.sends.WithLabelValues(refused.Code).Inc()
		}
		s.logAnswer(nil, r.id, r.verb, refused)
	}
	return refused
}

func (s *session) answer(id int64, name string, value any) {
	s.out.answer(resultFrame(id, name, value))
}

func (s *session) refuse(id int64, r *refusal) { s.out.answer(errorFrame(id, r)) }

// call runs the request concurrently with others of the connection.
func (s *session) call(r request) {
	select {
	case s.calls <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	s.spawn(func() {
		defer func() { <-s.calls }()
		ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.CallTimeout)
		defer cancel()
		ctx, span := s.startSpan(ctx, r)
		ctx = metadata.AppendToOutgoingContext(ctx, events.CorrelationHeader, s.correlation(r.id))
		var name string
		var value any
		err := s.gw.nodes.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) (err error) {
			name, value, err = s.ask(ctx, c, r)
			return err
		})
		if err != nil {
			refused := asRefusal(err)
			s.logAnswer(span, r.id, r.verb, refused)
			s.refuse(r.id, refused)
			endSpan(span, refused)
			return
		}
		s.logAnswer(span, r.id, r.verb, nil)
		s.out.answerInTurn(s.ctx, resultFrame(r.id, name, value))
		endSpan(span, nil)
	})
}

// ask makes the call for the verb.
func (s *session) ask(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	switch r.verb {
	case "history":
		return s.history(ctx, c, r)
	case "conversations":
		return s.conversations(ctx, c, r)
	case "readers":
		return s.readers(ctx, c, r)
	case "push_subscribe", "push_unsubscribe":
		return s.subscribe(ctx, c, r)
	case "blocked":
		return s.blocked(ctx, c)
	}
	return s.groupInfo(ctx, c, r)
}

func (s *session) groupInfo(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	var b groupBody
	if refused := r.into(&b); refused != nil {
		return "", nil, refused
	}
	answer, err := c.GetGroup(ctx, &millracev1.GetGroupRequest{User: s.identity.User, GroupId: b.GroupID})
	if err != nil {
		return "", nil, err
	}
	return "group", groupOf(answer.GetGroup()), nil
}

// subscribe makes a browser get the user's notifications, or no longer.
func (s *session) subscribe(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	var b subscribeBody
	if refused := r.into(&b); refused != nil {
		return "", nil, refused
	}
	var err error
	if r.verb == "push_subscribe" {
		_, err = c.SubscribePush(ctx, &millracev1.SubscribePushRequest{
			User: s.identity.User, Endpoint: b.Endpoint, P256Dh: b.Keys.P256dh, Auth: b.Keys.Auth,
		})
	} else {
		_, err = c.UnsubscribePush(ctx, &millracev1.UnsubscribePushRequest{User: s.identity.User, Endpoint: b.Endpoint})
	}
	return "ok", struct{}{}, err
}

// refresh extends the session to the expiry of the new token. While no message node can tell whether that is revoked, only what
// was broadcast counts.
func (s *session) refresh(r request) {
	var b refreshBody
	if refused := r.into(&b); refused != nil {
		s.refuse(r.id, refused)
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.AnswerTimeout)
	defer cancel()
	identity, err := s.gw.verifier.Verify(ctx, b.Token)
	switch {
	case err != nil:
		s.refuse(r.id, refusedToken(err))
	case identity.User != s.identity.User:
		s.refuse(r.id, refuse(codeDenied, "the token is another user's"))
	case !s.gw.hub.accepts(s.sub, identity.Issued, s.revokedBefore(ctx)):
		s.refuse(r.id, errRevoked())
	default:
		s.expireAt(identity.Ends())
		s.answer(r.id, "ok", struct{}{})
	}
}

// revokedBefore returns the time before which the user's tokens are revoked, or 0 if there is none or no message node can tell.
func (s *session) revokedBefore(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, s.gw.cfg.AnswerTimeout/3)
	defer cancel()
	answer, err := s.gw.nodes.Memberships(ctx, s.identity.User)
	if err != nil {
		s.log.Info("nobody knows whether a token is revoked", "user", s.identity.User, "error", err)
	}
	return answer.GetTokensRevokedBefore()
}

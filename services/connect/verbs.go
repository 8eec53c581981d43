package connect

import (
	"context"

	"google.golang.org/grpc/metadata"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// handle answers one frame of the client, in the reader's goroutine: sends go to their lane, other requests that need a
// message node run beside each other.
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
		s.handleConnect(r)
	case r.verb == "refresh":
		s.refresh(r)
	case r.verb == "send":
		s.send(r)
	case r.verb == "ping":
		s.answer(r.id, "pong", struct{}{})
	case r.verb == "presence":
		s.presence(r)
	case r.verb == "typing":
		s.typing(r)
	default:
		s.call(r)
	}
}

// limit refuses the request where the user asks for too much of its kind.
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
		s.logAnswer(r.id, r.verb, refused)
	}
	return refused
}

func (s *session) answer(id int64, name string, value any) { s.out.text(resultFrame(id, name, value)) }

func (s *session) refuse(id int64, r *refusal) { s.out.text(errorFrame(id, r)) }

// call runs the request beside the others of the connection.
func (s *session) call(r request) {
	select {
	case s.calls <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.calls }()
		ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.CallTimeout)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(ctx, events.CorrelationHeader, s.correlation(r.id))
		var name string
		var value any
		err := s.gw.nodes.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) (err error) {
			name, value, err = s.ask(ctx, c, r)
			return err
		})
		if s.out.room(s.ctx) != nil {
			return
		}
		if err != nil {
			refused := asRefusal(err)
			s.logAnswer(r.id, r.verb, refused)
			s.refuse(r.id, refused)
			return
		}
		s.logAnswer(r.id, r.verb, nil)
		s.answer(r.id, name, value)
	})
}

// ask makes the call that the verb stands for.
func (s *session) ask(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	switch r.verb {
	case "history":
		return s.history(ctx, c, r)
	case "conversations":
		return s.conversations(ctx, c, r)
	case "read", "recall", "edit":
		return s.mark(ctx, c, r)
	}
	return s.group(ctx, c, r)
}

func (s *session) mark(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	var b messageBody
	if refused := r.into(&b); refused != nil {
		return "", nil, refused
	}
	user := s.identity.User
	var err error
	switch r.verb {
	case "read":
		_, err = c.MarkRead(ctx, &millracev1.MarkReadRequest{User: user, Conversation: b.Conversation, Seq: b.Seq})
	case "recall":
		_, err = c.RecallMessage(ctx, &millracev1.RecallMessageRequest{User: user, Conversation: b.Conversation, MessageId: b.MessageID})
	case "edit":
		_, err = c.EditMessage(ctx, &millracev1.EditMessageRequest{
			User: user, Conversation: b.Conversation, MessageId: b.MessageID, Content: b.Content,
		})
	}
	return "ok", struct{}{}, err
}

func (s *session) group(ctx context.Context, c millracev1.MessageServiceClient, r request) (string, any, error) {
	var b groupBody
	if refused := r.into(&b); refused != nil {
		return "", nil, refused
	}
	if b.Join != "" && b.Join != events.JoinOpen {
		return "", nil, refuse(codeInvalid, `join: want "open" or nothing`)
	}
	var answer interface{ GetGroup() *millracev1.Group }
	var err error
	switch r.verb {
	case "group_create":
		answer, err = c.CreateGroup(ctx, &millracev1.CreateGroupRequest{
			Sender: s.sender, Name: b.Name, Members: b.Members, Open: b.Join == events.JoinOpen, ClientMsgId: b.ClientMsgID,
		})
	case "group_join":
		answer, err = c.JoinGroup(ctx, &millracev1.JoinGroupRequest{Sender: s.sender, GroupId: b.GroupID})
	case "group_add":
		answer, err = c.AddMember(ctx, &millracev1.AddMemberRequest{Sender: s.sender, GroupId: b.GroupID, User: b.User})
	case "group_remove":
		answer, err = c.RemoveMember(ctx, &millracev1.RemoveMemberRequest{Sender: s.sender, GroupId: b.GroupID, User: b.User})
	case "group_info":
		answer, err = c.GetGroup(ctx, &millracev1.GetGroupRequest{User: s.identity.User, GroupId: b.GroupID})
	case "group_leave":
		_, err = c.LeaveGroup(ctx, &millracev1.LeaveGroupRequest{Sender: s.sender, GroupId: b.GroupID})
		return "ok", struct{}{}, err
	}
	if err != nil {
		return "", nil, err
	}
	return "group", groupOf(answer.GetGroup()), nil
}

// typing is relayed, not logged: it may be lost.
func (s *session) typing(r request) {
	var b typingBody
	if refused := r.into(&b); refused != nil {
		s.refuse(r.id, refused)
		return
	}
	if _, refused := target(s.identity.User, b.To, b.GroupID); refused != nil {
		s.refuse(r.id, refused)
		return
	}
	channel := events.UserChannel(b.To)
	if b.GroupID != 0 {
		channel = events.Group(b.GroupID)
		if !s.gw.hub.member(s.sub, b.GroupID) {
			s.refuse(r.id, refuse(codeNotFound, "no such group")) // in the words of the message service
			return
		}
	}
	push := pushFrame(struct {
		Type    string `json:"type"`
		From    int64  `json:"from"`
		To      int64  `json:"to,omitempty"`
		GroupID int64  `json:"group_id,omitempty"`
	}{"typing", s.identity.User, b.To, b.GroupID})
	s.gw.hub.signal(&millracev1.Signal{
		Channel: channel, ExceptUser: s.identity.User, Kind: &millracev1.Signal_Push{Push: push},
	})
	s.answer(r.id, "ok", struct{}{})
}

// refresh extends the session to the new token's life.
func (s *session) refresh(r request) {
	var b refreshBody
	if refused := r.into(&b); refused != nil {
		s.refuse(r.id, refused)
		return
	}
	identity, err := s.verify(b.Token)
	switch {
	case err != nil:
		s.refuse(r.id, refuse(codeUnauthenticated, err.Error()))
	case identity.User != s.identity.User:
		s.refuse(r.id, refuse(codeDenied, "the token is another user's"))
	default:
		s.expireAt(identity.Expires)
		s.answer(r.id, "ok", struct{}{})
	}
}

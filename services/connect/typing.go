package connect

import (
	"context"
	"sync"
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxAcquaintances is of how many users a session remembers whether its user has a conversation with them.
	maxAcquaintances = 256
	// strangerFor is how long a user counts as a stranger before the gateway asks again.
	strangerFor = 2 * time.Second
)

// acquaintances is what a session knows of the users with whom its user has a conversation.
type acquaintances struct {
	mu sync.Mutex
	// users has the time until which a user counts as a stranger, or the zero time for an acquaintance.
	users map[int64]time.Time
}

// look reports whether there is a conversation with the user, and whether that is known.
func (a *acquaintances) look(user int64) (acquainted, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, known := a.users[user]
	return known && until.IsZero(), known && (until.IsZero() || time.Now().Before(until))
}

func (a *acquaintances) note(user int64, acquainted bool) {
	var until time.Time
	if !acquainted {
		until = time.Now().Add(strangerFor)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, known := a.users[user]; known && at.IsZero() {
		return // a conversation does not end
	}
	if a.users == nil || len(a.users) >= maxAcquaintances {
		a.users = map[int64]time.Time{}
	}
	a.users[user] = until
}

// typing relays that the user is writing. It is not logged and may be lost. It is not relayed to a user with whom there is no
// conversation, which the sender is not told, nor to one who blocks the sender.
func (s *session) typing(r request) {
	var b typingBody
	refused := r.into(&b)
	if refused == nil {
		_, refused = target(s.identity.User, b.To, b.GroupID)
	}
	if refused == nil && b.GroupID != 0 && !s.gw.hub.member(s.sub, b.GroupID) {
		refused = refuse(codeNotFound, "no such group") // the words of the message service
	}
	acquainted, known := b.GroupID != 0, true
	if refused == nil && b.To != 0 {
		acquainted, known = s.mayTypeTo(b.To)
	}
	switch {
	case refused != nil:
		s.refuse(r.id, refused)
	case known:
		s.typed(r.id, b, acquainted)
	default:
		s.askBeforeTyping(r.id, b)
	}
}

// mayTypeTo reports whether there is a conversation with the user, and whether that, and that the user blocks the session's
// user or not, is known.
func (s *session) mayTypeTo(user int64) (acquainted, known bool) {
	acquainted, known = s.acquaintances.look(user)
	_, asked := s.gw.hub.blockedBy(s.sub, user)
	return acquainted, known && asked
}

// typed answers a typing and relays it.
func (s *session) typed(id int64, b typingBody, acquainted bool) {
	if b.To != 0 {
		if blocked, _ := s.gw.hub.blockedBy(s.sub, b.To); blocked {
			s.refuse(id, refuse(codeDenied, "the user accepts no direct messages of yours"))
			return
		}
	}
	s.answer(id, "ok", struct{}{})
	if acquainted {
		s.relayTyping(b)
	}
}

// askBeforeTyping asks a message node whether the two users have a conversation and whether the other one blocks this one.
// While many requests wait for message nodes it does not ask, and the typing is lost.
func (s *session) askBeforeTyping(id int64, b typingBody) {
	select {
	case s.calls <- struct{}{}:
	default:
		s.answer(id, "ok", struct{}{})
		return
	}
	s.spawn(func() {
		defer func() { <-s.calls }()
		ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.CallTimeout)
		defer cancel()
		s.askBlockers(ctx, b.To)
		acquainted, known := s.acquaintances.look(b.To)
		if !known {
			acquainted = s.askAcquainted(ctx, b.To)
		}
		s.typed(id, b, acquainted)
	})
}

// askAcquainted asks a message node whether there is a conversation with the user. Without an answer there is none.
func (s *session) askAcquainted(ctx context.Context, user int64) bool {
	var newest *millracev1.HistoryResponse
	err := s.gw.nodes.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) (err error) {
		newest, err = c.History(ctx, &millracev1.HistoryRequest{
			User: s.identity.User, Conversation: events.Direct(s.identity.User, user), Limit: 1,
		})
		return err
	})
	if err != nil {
		return false
	}
	acquainted := len(newest.GetMessages()) > 0
	s.acquaintances.note(user, acquainted)
	return acquainted
}

func (s *session) relayTyping(b typingBody) {
	channel := events.UserChannel(b.To)
	if b.GroupID != 0 {
		channel = events.Group(b.GroupID)
	}
	push := pushFrame(struct {
		Type    string `json:"type"`
		From    int64  `json:"from"`
		To      int64  `json:"to,omitempty"`
		GroupID int64  `json:"group_id,omitempty"`
	}{pushTyping, s.identity.User, b.To, b.GroupID})
	s.gw.hub.signal(&millracev1.Signal{
		Channel: channel, ExceptUser: s.identity.User, Kind: &millracev1.Signal_Push{Push: push},
	})
}

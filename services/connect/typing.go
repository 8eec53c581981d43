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
// conversation, which the sender is not told.
func (s *session) typing(r request) {
	var b typingBody
	refused := r.into(&b)
	if refused == nil {
		_, refused = target(s.identity.User, b.To, b.GroupID)
	}
	if refused == nil && b.GroupID != 0 && !s.gw.hub.member(s.sub, b.GroupID) {
		refused = refuse(codeNotFound, "no such group") // the words of the message service
	}
	if refused != nil {
		s.refuse(r.id, refused)
		return
	}
	s.answer(r.id, "ok", struct{}{})
	acquainted, known := s.acquaintances.look(b.To)
	switch {
	case acquainted, b.GroupID != 0:
		s.relayTyping(b)
	case !known:
		s.relayIfAcquainted(b)
	}
}

// relayIfAcquainted asks a message node whether the two users have a conversation, and relays if so. While many requests wait
// for message nodes it does nothing.
func (s *session) relayIfAcquainted(b typingBody) {
	select {
	case s.calls <- struct{}{}:
	default:
		return
	}
	s.spawn(func() {
		defer func() { <-s.calls }()
		ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.CallTimeout)
		defer cancel()
		var newest *millracev1.HistoryResponse
		err := s.gw.nodes.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) (err error) {
			newest, err = c.History(ctx, &millracev1.HistoryRequest{
				User: s.identity.User, Conversation: events.Direct(s.identity.User, b.To), Limit: 1,
			})
			return err
		})
		if err != nil {
			return
		}
		acquainted := len(newest.GetMessages()) > 0
		s.acquaintances.note(b.To, acquainted)
		if acquainted {
			s.relayTyping(b)
		}
	})
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

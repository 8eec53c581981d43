package connect

import (
	"context"
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// A gateway knows of its sessions' users who blocks them, as far as it matters: of the users whom a session watches or types
// to. It asks a message node when the session begins to watch, and when it types. The gateway through which somebody blocks
// or unblocks a user then signals that, and the gateways that have sessions of that user ask again about those who matter. A
// signal may be lost; then typing is refused after [blockLife], and presence is withheld once the session asks for it again.

const (
	// blockLife is how long a session may type to a user before the gateway asks again whether the user blocks it.
	blockLife = 30 * time.Second
	// blockWait bounds such a question. Without an answer what was known goes on.
	blockWait = time.Second
	// maxBlockers is of how many users a session remembers whether they block it: those it may watch and as many others.
	maxBlockers = 2 * maxWatched
)

// blocker is what a session knows of a user who may block it. The hub's lock guards it.
type blocker struct {
	seq     int64 // of the change that made it so, or 0
	blocked bool
	asked   time.Time
}

// composeBlock makes a change of the conversation of the two users, so that it keeps its place among what the user does there.
func (s *session) composeBlock(r request, m *outgoing) (string, *refusal) {
	var b blockBody
	if refused := r.into(&b); refused != nil {
		return "", refused
	}
	user := s.identity.User
	if b.User < 1 || b.User > events.MaxID || b.User == user {
		return "", refuse(codeInvalid, "user: want another user, an integer from 1 to 2^53-1")
	}
	m.stored = true
	if r.verb == "block" {
		m.change.Kind = &millracev1.Change_Block{Block: &millracev1.BlockRequest{Sender: s.sender, User: b.User}}
	} else {
		m.change.Kind = &millracev1.Change_Unblock{Unblock: &millracev1.UnblockRequest{Sender: s.sender, User: b.User}}
	}
	return events.Direct(user, b.User), nil
}

// announceBlock tells the other user's gateways through every push node that the change was made, because a gateway may be
// attached to only some of them.
func (h *hub) announceBlock(c *millracev1.Change) {
	by, user := c.GetBlock().GetSender().GetUser(), c.GetBlock().GetUser()
	if c.GetUnblock() != nil {
		by, user = c.GetUnblock().GetSender().GetUser(), c.GetUnblock().GetUser()
	}
	signal := &millracev1.Signal{Channel: events.UserChannel(user), Kind: &millracev1.Signal_BlockChanged{
		BlockChanged: &millracev1.BlockChanged{By: by},
	}}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		s.signal(signal)
	}
}

func (s *session) blocked(ctx context.Context, c millracev1.MessageServiceClient) (string, any, error) {
	answer, err := c.Blocked(ctx, &millracev1.BlockedRequest{User: s.identity.User})
	if err != nil {
		return "", nil, err
	}
	users := answer.GetUsers()
	if users == nil {
		users = []int64{}
	}
	return "blocked", struct {
		Users []int64 `json:"users"`
	}{users}, nil
}

// askBlockers finds out which of the users block the session's user. Without an answer what was known stays.
func (s *session) askBlockers(ctx context.Context, users ...int64) {
	if len(users) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, blockWait)
	defer cancel()
	var answer *millracev1.BlockedByResponse
	err := s.gw.nodes.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) (err error) {
		answer, err = c.BlockedBy(ctx, &millracev1.BlockedByRequest{User: s.identity.User, By: users})
		return err
	})
	if err != nil {
		s.log.Debug("nobody knows who blocks the user", "user", s.identity.User, "error", err)
	}
	s.gw.hub.noteBlockers(s.sub, users, answer.GetStates())
}

// noteBlockers notes what a message node has answered about the users. The session is told of a watched user who is online
// that the user is offline once the user blocks it, and that it is online when that ends.
func (h *hub) noteBlockers(sub *subscriber, users []int64, states []*millracev1.BlockedState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(sub.blockers)+len(users) > maxBlockers {
		for user := range sub.blockers {
			if _, watched := sub.watches[user]; !watched {
				delete(sub.blockers, user)
			}
		}
	}
	if sub.blockers == nil {
		sub.blockers = map[int64]blocker{}
	}
	now := time.Now()
	for _, user := range users {
		b := sub.blockers[user]
		b.asked = now
		sub.blockers[user] = b
	}
	for _, state := range states {
		user, b := state.GetBy(), sub.blockers[state.GetBy()]
		if state.GetSeq() <= b.seq {
			continue
		}
		changed := b.blocked != state.GetBlocked()
		b.seq, b.blocked = state.GetSeq(), state.GetBlocked()
		sub.blockers[user] = b
		if w := h.watches[user]; changed && sub.watches[user] && w.told {
			sub.session.out.text(presencePush(user, !b.blocked))
		}
	}
}

// blockedBy reports whether the user blocks the session's user, and whether that was asked lately.
func (h *hub) blockedBy(sub *subscriber, user int64) (blocked, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := sub.blockers[user]
	return b.blocked, time.Since(b.asked) < blockLife
}

// hearBlock handles the signal that a user has blocked or unblocked the session's user.
func (h *hub) hearBlock(sub *subscriber, by int64) {
	_, watched := sub.watches[by]
	if _, asked := sub.blockers[by]; asked || watched {
		sub.session.spawn(func() { sub.session.askBlockers(sub.session.ctx, by) })
	}
}

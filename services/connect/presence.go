package connect

import (
	"context"
	"slices"
	"time"

	"millrace/events"
	"millrace/infra/panics"
	millracev1 "millrace/proto/millrace/v1"
)

// maxWatched is how many users a connection may watch.
const maxWatched = 1000

// watch is a user whose presence some sessions have asked for. The user is online if it has a connection here or any push
// node says so; each push node knows the users of all gateways attached to it. The hub's lock guards it.
type watch struct {
	subs map[*subscriber]struct{}
	told bool // what the sessions were told last: whether the user is online
	// offline is since when the user has been offline while the sessions were told otherwise, or zero.
	offline time.Time
}

// presence answers which of the users are online, without those who block the session's user. From then on, until it is called
// again, the session is told of changes.
func (s *session) presence(r request) {
	var b presenceBody
	refused := r.into(&b)
	if refused == nil && (len(b.Users) > maxWatched || slices.ContainsFunc(b.Users, func(user int64) bool {
		return user < 1 || user > events.MaxID
	})) {
		refused = refuse(codeInvalid, "users: want at most 1,000 integers from 1 to 2^53-1")
	}
	if refused != nil {
		s.refuse(r.id, refused)
		return
	}
	select {
	case s.calls <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	hub := s.gw.hub
	hub.watch(s.sub, b.Users)
	s.spawn(func() {
		defer func() { <-s.calls }()
		ctx, cancel := context.WithTimeout(s.ctx, s.gw.cfg.CallTimeout)
		defer cancel()
		hub.await(ctx) // the nodes report who is online before they acknowledge
		s.askBlockers(ctx, b.Users...)
		lastSeen := s.lastSeen(ctx, b.Users)
		if s.out.room(s.ctx, &s.out.answers) != nil {
			return
		}
		hub.withPresence(s.sub, b.Users, func(online, withheld []int64) {
			for _, user := range slices.Concat(online, withheld) {
				delete(lastSeen, user)
			}
			s.answer(r.id, "presence", struct {
				Online   []int64         `json:"online"`
				LastSeen map[int64]int64 `json:"last_seen,omitempty"`
			}{online, lastSeen})
		})
	})
}

// lastSeen returns when the users last came or went, or nil while no message node can tell.
func (s *session) lastSeen(ctx context.Context, users []int64) map[int64]int64 {
	if len(users) == 0 {
		return nil
	}
	var seen *millracev1.LastSeenResponse
	err := s.gw.nodes.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) (err error) {
		seen, err = c.LastSeen(ctx, &millracev1.LastSeenRequest{Users: users})
		return err
	})
	if err != nil {
		s.log.Debug("nobody knows when users were last seen", "error", err)
	}
	return seen.GetLastSeen()
}

// watch replaces the users that the session watches. A user that it watched before keeps the state that the session was told.
func (h *hub) watch(sub *subscriber, users []int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := sub.watches
	sub.watches = make(map[int64]bool, len(users))
	for _, user := range users {
		sub.watches[user] = false
		w := h.watches[user]
		if w == nil {
			w = &watch{subs: map[*subscriber]struct{}{}}
			h.watches[user] = w
			h.changedUser(user)
		}
		w.subs[sub] = struct{}{}
	}
	for user := range before {
		if _, ok := sub.watches[user]; !ok {
			h.drop(sub, user)
		}
	}
}

// unwatch ends the watching of all users by the session.
func (h *hub) unwatch(sub *subscriber) {
	for user := range sub.watches {
		h.drop(sub, user)
	}
	sub.watches = nil
}

func (h *hub) drop(sub *subscriber, user int64) {
	w := h.watches[user]
	if delete(w.subs, sub); len(w.subs) == 0 {
		delete(h.watches, user)
		h.changedUser(user)
	}
}

// withPresence calls answer with those of the users who are online, in order, and with those whose presence is withheld. It
// makes sure that changes before the answer are in it and changes after it are told.
func (h *hub) withPresence(sub *subscriber, users []int64, answer func(online, withheld []int64)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	online, withheld := []int64{}, []int64(nil)
	for _, user := range users {
		w := h.watches[user]
		here := w != nil && (w.told || h.isOnline(user))
		if here {
			w.told = true
		}
		switch {
		case sub.blockers[user].blocked:
			withheld = append(withheld, user)
		case here:
			online = append(online, user)
		}
		if _, ok := sub.watches[user]; ok {
			sub.watches[user] = true
		}
	}
	slices.Sort(online)
	answer(slices.Compact(online), withheld)
}

func (h *hub) isOnline(user int64) bool {
	if len(h.sessionsOf(user)) > 0 {
		return true
	}
	for s := range h.streams {
		if _, ok := s.online[user]; ok {
			return true
		}
	}
	return false
}

// present notes what a push node says of a user.
func (h *hub) present(s *stream, p *millracev1.Presence) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.GetOnline() {
		s.online[p.GetUser()] = struct{}{}
	} else {
		delete(s.online, p.GetUser())
	}
	h.review(p.GetUser())
}

// moved is called when the first session of a user has come or the last has left.
func (h *hub) moved(c *channel) {
	if c.user != 0 {
		h.changedUser(c.user)
		h.review(c.user)
	}
}

// changedUser makes all streams send the present state of the user.
func (h *hub) changedUser(user int64) {
	for s := range h.streams {
		s.users = append(s.users, user)
		s.poke()
	}
}

// takeUsers returns what the stream has to say of users in its next Interest.
func (h *hub) takeUsers(s *stream) []*millracev1.UserInterest {
	n := min(len(s.users), interestChunk)
	var all []*millracev1.UserInterest
	for _, user := range s.users[:n] {
		if h.watches[user] == nil {
			delete(s.online, user) // if it is watched again, the node reports it again
		}
		all = append(all, &millracev1.UserInterest{
			User: user, Online: len(h.sessionsOf(user)) > 0, Watched: h.watches[user] != nil,
		})
	}
	if s.users = s.users[n:]; len(s.users) == 0 {
		s.users = nil
	}
	return all
}

// review tells the sessions that watch the user when its state differs from what they were told: at once if it is online, and
// after a while if it stays offline.
func (h *hub) review(user int64) {
	w := h.watches[user]
	if w == nil {
		return
	}
	online := h.isOnline(user)
	if online {
		w.offline = time.Time{}
	}
	switch {
	case online == w.told:
	case online:
		h.tell(user, w, true)
	case w.offline.IsZero():
		since := time.Now()
		w.offline = since
		time.AfterFunc(h.grace, func() {
			_ = h.panics.Do(panics.Background, func() { h.expire(user, w, since) }) // Panics counts it; some sessions are not told
		})
	}
}

// expire tells the sessions that the user is offline, if it has been since the time.
func (h *hub) expire(user int64, w *watch, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watches[user] == w && w.told && w.offline.Equal(since) {
		w.offline = time.Time{}
		h.tell(user, w, false)
	}
}

func (h *hub) tell(user int64, w *watch, online bool) {
	w.told = online
	push := presencePush(user, online)
	for sub := range w.subs {
		if sub.watches[user] && !sub.blockers[user].blocked {
			sub.session.out.text(push)
		}
	}
}

func presencePush(user int64, online bool) []byte {
	kind := pushUserOffline
	if online {
		kind = pushUserOnline
	}
	return pushFrame(struct {
		Type string `json:"type"`
		User int64  `json:"user"`
	}{kind, user})
}

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

// watch is a user whose presence some sessions asked for. A user is online if it has a connection here or any push node
// says so: each knows the users of all gateways attached to it. It is under the hub's lock.
type watch struct {
	subs map[*subscriber]struct{}
	told bool // what the sessions believe: online
	// since when it has been offline while the sessions believe otherwise; zero if it is not.
	offline time.Time
}

// presence answers which of the users are online. From then on, until it is asked again, the session hears of changes.
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
		hub.await(ctx) // the nodes tell who is online before they acknowledge
		if s.out.room(s.ctx, &s.out.answers) != nil {
			return
		}
		hub.withPresence(s.sub, b.Users, func(online []int64) {
			s.answer(r.id, "presence", struct {
				Online []int64 `json:"online"`
			}{online})
		})
	})
}

// watch replaces what the session watches. Who is watched before and after stays what it was told to be.
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

// unwatch ends all that the session watches.
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

// withPresence calls answer with those of the users that are online, in order, such that no change is told before it and
// none is left out after it.
func (h *hub) withPresence(sub *subscriber, users []int64, answer func(online []int64)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	online := []int64{}
	for _, user := range users {
		if w := h.watches[user]; w != nil && (w.told || h.isOnline(user)) {
			w.told = true
			online = append(online, user)
		}
		if _, ok := sub.watches[user]; ok {
			sub.watches[user] = true
		}
	}
	slices.Sort(online)
	answer(slices.Compact(online))
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

// present takes what a push node says of a user.
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

// moved follows the first session of a user that comes and the last that leaves.
func (h *hub) moved(c *channel) {
	if c.user != 0 {
		h.changedUser(c.user)
		h.review(c.user)
	}
}

// changedUser has all streams tell what there is to tell of the user now.
func (h *hub) changedUser(user int64) {
	for s := range h.streams {
		s.users = append(s.users, user)
		s.poke()
	}
}

// takeUsers is what the stream tells of users with its next Interest.
func (h *hub) takeUsers(s *stream) []*millracev1.UserInterest {
	n := min(len(s.users), interestChunk)
	var all []*millracev1.UserInterest
	for _, user := range s.users[:n] {
		if h.watches[user] == nil {
			delete(s.online, user) // should it be watched again, the node tells it anew
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

// review tells the sessions that watch the user if it is not what they believe: that it is online at once, that it is
// offline only if it stays so.
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
		h.tell(user, w, "user_online")
	case w.offline.IsZero():
		since := time.Now()
		w.offline = since
		time.AfterFunc(h.grace, func() {
			_ = h.panics.Do(panics.Background, func() { h.expire(user, w, since) }) // counted; somebody is not told
		})
	}
}

// expire tells that the user is offline if it has been so since then.
func (h *hub) expire(user int64, w *watch, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watches[user] == w && w.told && w.offline.Equal(since) {
		w.offline = time.Time{}
		h.tell(user, w, "user_offline")
	}
}

func (h *hub) tell(user int64, w *watch, kind string) {
	w.told = kind == "user_online"
	push := pushFrame(struct {
		Type string `json:"type"`
		User int64  `json:"user"`
	}{kind, user})
	for sub := range w.subs {
		if sub.watches[user] {
			sub.session.out.text(push)
		}
	}
}

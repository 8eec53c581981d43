package push

import millracev1 "millrace/proto/millrace/v1"

// presence is who is online, as far as the attached gateways tell, and which of them want to know. It needs no store: a
// gateway that is gone takes its users with it, and one that comes back tells of them anew. The routes' mutex guards it.
type presence struct {
	online   map[int64]int // on how many gateways
	watchers map[int64]map[*stream]struct{}
}

func newPresence() presence {
	return presence{online: make(map[int64]int), watchers: make(map[int64]map[*stream]struct{})}
}

// change takes what the gateway says of a user. Whoever begins to watch is told at once.
func (p *presence) change(s *stream, u *millracev1.UserInterest) {
	user := u.GetUser()
	_, watched := s.watched[user]
	switch {
	case u.GetWatched() && !watched:
		s.watched[user] = struct{}{}
		if p.watchers[user] == nil {
			p.watchers[user] = make(map[*stream]struct{})
		}
		p.watchers[user][s] = struct{}{}
		s.queue.presence(user, p.online[user] > 0)
	case watched && !u.GetWatched():
		p.unwatch(s, user)
	}
	if _, online := s.online[user]; online != u.GetOnline() {
		p.move(s, user, u.GetOnline())
	}
}

// forget takes a gateway's users offline and tells it nothing more.
func (p *presence) forget(s *stream) {
	for user := range s.watched {
		p.unwatch(s, user)
	}
	for user := range s.online { // move deletes what it is at
		p.move(s, user, false)
	}
}

func (p *presence) unwatch(s *stream, user int64) {
	delete(s.watched, user)
	s.queue.unwatch(user)
	if delete(p.watchers[user], s); len(p.watchers[user]) == 0 {
		delete(p.watchers, user)
	}
}

// move notes that a user has come to the gateway or left it, and tells the watchers if that changes anything for them.
func (p *presence) move(s *stream, user int64, online bool) {
	before := p.online[user]
	if online {
		s.online[user] = struct{}{}
		p.online[user]++
	} else {
		delete(s.online, user)
		if p.online[user]--; p.online[user] == 0 {
			delete(p.online, user)
		}
	}
	if (before > 0) == (p.online[user] > 0) {
		return
	}
	for watcher := range p.watchers[user] {
		watcher.queue.presence(user, online)
	}
}

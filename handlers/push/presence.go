package push

import millracev1 "millrace/proto/millrace/v1"

// presence knows which users are online according to the attached gateways, and which gateways watch them. It needs no store:
// when a gateway is gone its users are offline, and a gateway that comes back reports its users again. The mutex of the
// routes guards it.
type presence struct {
	online   map[int64]int // on how many gateways
	watchers map[int64]map[*gateway]struct{}
	moves    *moves // nil: changes of presence are not published
}

func newPresence() presence {
	return presence{online: make(map[int64]int), watchers: make(map[int64]map[*gateway]struct{})}
}

// change applies what the gateway reports of a user. A gateway that begins to watch a user is told the user's state at once.
func (p *presence) change(g *gateway, u *millracev1.UserInterest) {
	user := u.GetUser()
	_, watched := g.watched[user]
	switch {
	case u.GetWatched() && !watched:
		g.watched[user] = struct{}{}
		if p.watchers[user] == nil {
			p.watchers[user] = make(map[*gateway]struct{})
		}
		p.watchers[user][g] = struct{}{}
		g.queue.presence(user, p.online[user] > 0)
	case watched && !u.GetWatched():
		p.unwatch(g, user)
	}
	if _, online := g.online[user]; online != u.GetOnline() {
		p.move(g, user, u.GetOnline())
	}
}

// forget takes a gateway's users offline and stops telling it about the users it watches.
func (p *presence) forget(g *gateway) {
	for user := range g.watched {
		p.unwatch(g, user)
	}
	for user := range g.online { // move deletes the user that the loop is at
		p.move(g, user, false)
	}
}

func (p *presence) unwatch(g *gateway, user int64) {
	delete(g.watched, user)
	g.queue.unwatch(user)
	if delete(p.watchers[user], g); len(p.watchers[user]) == 0 {
		delete(p.watchers, user)
	}
}

// move notes that a user has come to the gateway or left it, and tells the watchers if the user is online or offline now and
// was not before. Such a change is to be published too.
func (p *presence) move(g *gateway, user int64, online bool) {
	before := p.online[user]
	if online {
		g.online[user] = struct{}{}
		p.online[user]++
	} else {
		delete(g.online, user)
		if p.online[user]--; p.online[user] == 0 {
			delete(p.online, user)
		}
	}
	if (before > 0) == (p.online[user] > 0) {
		return
	}
	if p.moves != nil {
		p.moves.note(user, online)
	}
	for watcher := range p.watchers[user] {
		watcher.queue.presence(user, online)
	}
}

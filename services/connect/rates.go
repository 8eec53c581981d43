package connect

import (
	"sync"

	"golang.org/x/time/rate"
)

// rates limit the sends of each user, whatever the number of its sessions here.
type rates struct {
	perSecond int

	mu    sync.Mutex
	users map[int64]*userRate
}

type userRate struct {
	*rate.Limiter
	sessions int
}

// join answers the limiter of the user until leave.
func (r *rates) join(user int64) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[user]
	if u == nil {
		u = &userRate{Limiter: rate.NewLimiter(rate.Limit(r.perSecond), r.perSecond)}
		r.users[user] = u
	}
	u.sessions++
	return u.Limiter
}

func (r *rates) leave(user int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.users[user]; u != nil {
		if u.sessions--; u.sessions == 0 {
			delete(r.users, user)
		}
	}
}

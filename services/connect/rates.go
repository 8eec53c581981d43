package connect

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// class is a kind of verbs that share a limit.
type class int

const (
	sends   class = iota // send
	changes              // edit, recall, read, settings, block, unblock and the verbs that change a group or a subscription
	queries              // history, conversations, readers, presence, blocked, group_info, refresh
	signals              // typing, which fans out to a whole group
	classes = iota
)

// String returns the name of the class, which clients see in errors and which labels the metrics.
func (c class) String() string { return [classes]string{"sends", "changes", "queries", "signals"}[c] }

// The limits of one user's requests per second on this gateway, which are also the bursts. That of sends is configured.
const (
	changeRate = 1000
	queryRate  = 200
	signalRate = 50
)

// classOf returns the class of a verb. A ping has none: only the limit of frames applies to it.
func classOf(verb string) (class, bool) {
	switch verb {
	case "send":
		return sends, true
	case "edit", "recall", "read", "settings", "block", "unblock", "group_create", "group_join", "group_leave", "group_add", "group_remove",
		"group_rename", "group_dissolve", "group_role", "group_mute", "push_subscribe", "push_unsubscribe":
		return changes, true
	case "history", "conversations", "readers", "presence", "blocked", "group_info", "refresh":
		return queries, true
	case "typing":
		return signals, true
	}
	return 0, false
}

// rates bounds what each user asks for, over all its sessions on this gateway, and the number of these sessions.
type rates struct {
	sends       int // per second
	connections int // of a user

	mu    sync.Mutex
	users map[int64]*userRate
}

// userRate is what the sessions of one user share.
type userRate struct {
	frames *rate.Limiter                         // of any kind of frame
	limits [classes]atomic.Pointer[rate.Limiter] // nil until the first request
	sends  int                                   // per second

	// The lock of rates guards these. Sessions of one device count as one, because the latest replaces the others.
	sessions int
	devices  map[string]int // by device
}

func (r *rates) newUser() *userRate {
	return &userRate{frames: perSecond(floodFactor * r.sends), sends: r.sends}
}

func perSecond(n int) *rate.Limiter { return rate.NewLimiter(rate.Limit(n), n) }

// join counts a session of the user until leave. It refuses the session if the user has as many connections as it may have.
func (r *rates) join(user int64, device string) (*userRate, *refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[user]
	if u == nil {
		u = r.newUser()
		r.users[user] = u
	}
	if replaces := u.devices[device] > 0; !replaces && u.connections() >= r.connections {
		return nil, refuse(codeRateLimited, fmt.Sprintf("too many connections: at most %d of one user", r.connections))
	}
	u.sessions++
	if device != "" {
		if u.devices == nil {
			u.devices = map[string]int{}
		}
		u.devices[device]++
	}
	return u, nil
}

// connections returns how many sessions there are when the older ones of each device are left out.
func (u *userRate) connections() int {
	replaced := 0
	for _, n := range u.devices {
		replaced += n - 1
	}
	return u.sessions - replaced
}

func (r *rates) leave(user int64, device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[user]
	if device != "" {
		if u.devices[device]--; u.devices[device] == 0 {
			delete(u.devices, device)
		}
	}
	if u.sessions--; u.sessions == 0 {
		delete(r.users, user)
	}
}

// allow counts one request of the class, or refuses it.
func (u *userRate) allow(c class) *refusal {
	limit := u.limits[c].Load()
	if limit == nil {
		u.limits[c].CompareAndSwap(nil, perSecond([classes]int{u.sends, changeRate, queryRate, signalRate}[c]))
		limit = u.limits[c].Load()
	}
	if limit.Allow() {
		return nil
	}
	return refuse(codeRateLimited, fmt.Sprintf("too many %s: at most %.0f a second of one user", c, limit.Limit()))
}

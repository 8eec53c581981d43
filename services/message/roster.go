package message

import (
	"slices"
	"sync"
	"time"

	"millrace/events"
)

// roster holds the members of one group as they were last read.
type roster struct {
	reads   *shared[struct{}]
	counted int // how many of members.users it accounts for; guarded by the mutex of members

	mu      sync.Mutex
	users   []int64   // ascending
	read    time.Time // when the reading of users began
	changed map[int64]time.Time
	ended   bool // the group was dissolved
}

func (r *roster) set(users []int64, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.read = users, began
	for user, at := range r.changed {
		if time.Since(at) >= changeLife {
			delete(r.changed, user)
		}
	}
}

// changeLife is how long the store is asked about a user whose membership has changed. A roster that was read after the
// change was seen may still be from before the change was stored, which takes at most [storedWait]; such a roster has expired
// by then.
const changeLife = rosterLife + storedWait

func (r *roster) change(e *events.Event, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Type {
	case events.GroupDissolved:
		r.ended = true
	case events.MemberJoined, events.MemberLeft:
		r.changed[e.User] = at
	}
}

// knows reports whether the user was a member when the roster was read, and no change since is known.
func (r *roster) knows(user int64) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has(user)
}

func (r *roster) has(user int64) bool {
	_, member := slices.BinarySearch(r.users, user)
	at, changed := r.changed[user]
	return member && !r.ended && (!changed || time.Since(at) >= changeLife)
}

// vouchesFor reports the same as knows, but only if the roster was read lately and not before since. It has the roster read
// again in good time.
func (r *roster) vouchesFor(user int64, since time.Time) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	read, member := r.read, r.has(user)
	r.mu.Unlock()
	age := time.Since(read)
	if age >= rosterLife/2 {
		r.reads.start()
	}
	return member && age < rosterLife && !read.Before(since)
}

func (r *roster) isFrom() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read
}

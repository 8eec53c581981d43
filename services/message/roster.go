package message

import (
	"slices"
	"sync"
	"time"

	"millrace/events"
	"millrace/infra/store"
)

// roster holds the members of one group as they were last read.
type roster struct {
	reads   *shared[struct{}]
	counted int // how many of members.users it accounts for; guarded by the mutex of members

	mu    sync.Mutex
	users []int64   // ascending
	read  time.Time // when the reading of users began
	// changed has users whose membership, role or mute was seen to change, and when, unless users and group have the change for
	// certain; 0 is a mute of all.
	changed map[int64]time.Time
	ended   bool      // the group was dissolved
	revised time.Time // when a change of roles or mutes was seen

	group *store.Group // as it was read after the users
}

func (r *roster) set(users []int64, g *store.Group, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.group, r.read = users, g, began
	for user, at := range r.changed {
		if began.Sub(at) >= storedWait { // by then the change was stored
			delete(r.changed, user)
		}
	}
}

func (r *roster) change(e *events.Event, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Type {
	case events.GroupDissolved:
		r.ended = true
	case events.MemberJoined, events.MemberLeft:
		r.changed[e.User] = at
	case events.MemberRole, events.MemberMuted:
		r.changed[e.User], r.revised = at, at
	}
}

// knows reports whether the user was a member when the roster was read, however long ago, and no change since is known that may
// concern the user.
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
	_, changed := r.changed[user]
	_, all := r.changed[0]
	return member && !r.ended && !changed && !all
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
	since = r.trustedFrom(since)
	age := time.Since(read)
	if age >= rosterLife/2 {
		r.reads.start()
	}
	return member && age < rosterLife && !read.Before(since)
}

// trustedFrom returns the later of the time and that from which on a reading has the roles and mutes that were seen to change.
// Those are stored within [storedWait].
func (r *roster) trustedFrom(since time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stored := r.revised.Add(storedWait); !r.revised.IsZero() && stored.After(since) {
		return stored
	}
	return since
}

// mutedUntil returns until when a user was muted when the roster was read.
func (r *roster) mutedUntil(user int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.group == nil {
		return 0
	}
	return mutedUntil(r.group, user)
}

// mutedUntil returns until when a member of the group is muted, in Unix seconds.
func mutedUntil(g *store.Group, user int64) int64 {
	if len(g.Mutes) == 0 || g.Grants.Role(user).Governs() {
		return 0
	}
	return max(g.Mutes[user], g.Mutes[0])
}

func (r *roster) isFrom() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read
}

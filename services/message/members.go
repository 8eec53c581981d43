package message

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// lease is how long after it was read a membership may authorise a send without asking the store. A verb that ends
	// one answers a lease after the change is stored: then no node goes by the old membership any more.
	lease = 250 * time.Millisecond
	// staleWait is how long a send waits for the store when an older membership would do, missWait when there is none.
	// Publishing takes up to 4 s after it, and the gateway waits 4.5 s.
	staleWait = 100 * time.Millisecond
	missWait  = 400 * time.Millisecond
	// storePause is how long nobody waits for a store that has just failed.
	storePause = time.Second
	// rosterPause lies between two readings of one group, however many of its strangers try to send.
	rosterPause   = 20 * time.Millisecond
	rosterTimeout = 2 * time.Second
	maxRosters    = 4096
)

// members says who may send to a group. It answers from memory within the lease; a membership that was read once goes on
// serving while the store is down, and a refusal always comes from a reading that started after the question.
type members struct {
	store Store
	tasks *tasks

	mu      sync.Mutex
	rosters *lru.Cache[int64, *roster]
}

// roster is one group as it was last read.
type roster struct {
	reads *shared[[]int64]

	mu     sync.Mutex
	users  []int64   // ascending
	read   time.Time // when the reading began that users are from
	voided time.Time // readings that began before are not fresh
	failed time.Time // when the store last let somebody down
}

func newMembers(st Store, t *tasks) (*members, error) {
	rosters, err := lru.New[int64, *roster](maxRosters)
	if err != nil {
		return nil, err
	}
	return &members{store: st, tasks: t, rosters: rosters}, nil
}

// check returns nil if the user is a member of the group, errNoGroup if it is not, and an error that passes if nobody knows.
func (m *members) check(ctx context.Context, user, group int64) error {
	r := m.roster(group)
	asked := time.Now()
	member, fresh, paused := r.look(user, asked)
	if member && (fresh || paused) {
		return nil
	}
	if paused {
		return errStoreDown
	}
	wait := missWait
	if member {
		wait = staleWait
	}
	reading, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	now, err := r.reads.get(reading)
	switch {
	case err == nil && !isMember(now, user):
		return errNoGroup
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	r.fail(asked)
	if member {
		return nil
	}
	return fmt.Errorf("members of group %d: %w", group, err)
}

// void makes the next check of the group read the store.
func (m *members) void(group int64) {
	r := m.roster(group)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.voided = time.Now()
}

func (m *members) roster(group int64) *roster {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rosters.Get(group)
	if !ok {
		r = &roster{}
		r.reads = newShared(m.tasks, rosterPause, rosterTimeout, func(ctx context.Context) ([]int64, error) {
			began := time.Now()
			users, err := m.store.Members(ctx, group)
			if err == nil {
				r.keep(users, began)
			}
			return users, err
		})
		m.rosters.Add(group, r)
	}
	return r
}

func (r *roster) keep(users []int64, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users, r.read, r.failed = users, began, time.Time{}
}

// look tells whether the user was a member when the group was last read, whether that was within the lease, and whether
// the store is not to be asked for now.
func (r *roster) look(user int64, now time.Time) (member, fresh, paused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh = now.Sub(r.read) < lease && r.read.After(r.voided)
	return isMember(r.users, user), fresh, now.Sub(r.failed) < storePause
}

func (r *roster) fail(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read.Before(at) {
		r.failed = time.Now()
	}
}

func isMember(users []int64, user int64) bool {
	_, ok := slices.BinarySearch(users, user)
	return ok
}

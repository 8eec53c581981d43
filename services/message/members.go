package message

import (
	"context"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
	"millrace/infra/pubsub"
)

const (
	// lease is how long a roster may be gone by after the end of group-events was asked for, and all up to there was seen. A
	// verb that ends a membership returns a lease after group-events has it: then every node has seen it, or asks.
	lease = 250 * time.Millisecond
	// rosterLife is how long a roster may be gone by after it was read. Only a change that nobody has copied to group-events
	// stays unseen so long: one by a foreign producer, or whose copy failed. At half of it the roster is read again.
	rosterLife = 30 * time.Second
	// staleWait is how long a send waits for the log or the store when an older membership would do, missWait when there is
	// none. Publishing takes up to 4 s after it, and the gateway waits 4.5 s.
	staleWait = 100 * time.Millisecond
	missWait  = 400 * time.Millisecond
	// storePause is how long nobody waits for a store that has just failed.
	storePause = time.Second
	// rosterPause lies between two readings of one roster.
	rosterPause   = 20 * time.Millisecond
	rosterTimeout = 2 * time.Second
	maxRosters    = 4096
	// maxRosterUsers bounds the users in all rosters together: 32 MiB.
	maxRosterUsers = 4 << 20
)

// members says who may send to a group. Of every group that members send to it keeps the roster, and follows group-events to
// know which memberships have changed since: as long as it keeps up with the log a known member's send asks the store nothing.
// Everybody else, who is unknown or whose membership has changed lately, is let in or refused by its own stays in the store,
// which takes the same time whether or not there is such a group. A known membership goes on serving while the store is down.
type members struct {
	store   Store
	tasks   *tasks
	changes *follower
	breaker breaker

	mu      sync.Mutex
	rosters *lru.Cache[int64, *roster]
	users   int       // in all rosters
	trusted time.Time // rosters that were read before may lack changes
}

func newMembers(st Store, topic pubsub.Log, t *tasks) (*members, error) {
	m := &members{store: st, tasks: t}
	rosters, err := lru.NewWithEvict(maxRosters, func(_ int64, r *roster) { m.users -= r.counted })
	if err != nil {
		return nil, err
	}
	m.rosters = rosters
	m.changes = newFollower(topic, t, m.changed, m.missed)
	return m, nil
}

// check returns nil if the user is a member of the group, errNoGroup if it is not, and an error that passes if nobody knows.
func (m *members) check(ctx context.Context, user, group int64) error {
	if m.vouches(ctx, user, group) {
		return nil
	}
	known := m.roster(group).knows(user)
	wait := missWait
	if known {
		wait = staleWait
	}
	var of standing
	err := m.breaker.call(ctx, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		of, err = m.store.Stays(ctx, user, group)
		return err
	})
	switch {
	case err == nil && !of.member():
		return errNoGroup
	case err == nil:
		m.load(group)
		return nil
	case known && ctx.Err() == nil:
		return nil
	}
	return fmt.Errorf("membership of user %d in group %d: %w", user, group, err)
}

// vouches reports whether the user is a member by a roster of which nothing has changed since. It waits only for the log,
// and only if nobody has asked for its end for a lease.
func (m *members) vouches(ctx context.Context, user, group int64) bool {
	if !m.knownFor(user, group) {
		return false
	}
	if !m.changes.keepsUp(lease) {
		waiting, cancel := context.WithTimeout(ctx, staleWait)
		defer cancel()
		if m.changes.catchUp(waiting) != nil {
			return false
		}
	}
	return m.knownFor(user, group) // as it is by now
}

func (m *members) knownFor(user, group int64) bool {
	r := m.roster(group)
	m.mu.Lock()
	since := m.trusted
	m.mu.Unlock()
	return r.vouchesFor(user, since)
}

// roster returns what is known of the group, nil if that is nothing.
func (m *members) roster(group int64) *roster {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, _ := m.rosters.Get(group)
	return r
}

// load has the group's roster read, which nobody waits for.
func (m *members) load(group int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rosters.Get(group)
	if !ok {
		r = &roster{changed: map[int64]time.Time{}}
		r.reads = newShared(m.tasks, rosterPause, rosterTimeout, func(ctx context.Context) (struct{}, error) {
			began := time.Now()
			users, err := m.store.Members(ctx, group)
			if err == nil {
				m.keep(group, r, users, began)
			}
			return struct{}{}, err
		})
		m.rosters.Add(group, r)
	}
	if !ok || r.isFrom().Before(m.trusted) && !time.Now().Before(m.trusted) {
		r.reads.start()
	}
}

// keep takes what was read of a group, and drops those that were not asked for longest if it is too much.
func (m *members) keep(group int64, r *roster, users []int64, began time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, ok := m.rosters.Peek(group); !ok || now != r {
		return
	}
	m.users += len(users) - r.counted
	r.counted = len(users)
	r.set(users, began)
	for m.users > maxRosterUsers && m.rosters.Len() > 1 {
		m.rosters.RemoveOldest()
	}
}

// changed takes a change of membership: from now on the store is asked for those whose it is.
func (m *members) changed(e *events.Event) {
	if r := m.roster(e.GroupID); r != nil {
		r.change(e, time.Now())
	}
}

// missed stops the trust in all rosters: changes may have been missed. What was changed before now is stored within
// [storedWait], or its verb has not told anybody that it holds.
func (m *members) missed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusted = time.Now().Add(storedWait)
}

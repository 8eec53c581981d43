package message

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
)

const (
	// lease is how long a node may use a roster after it has asked for the end of group-events and has seen everything up to
	// there. A verb that ends a membership returns a lease after group-events has the change: by then every node has seen the
	// change, or asks.
	lease = 250 * time.Millisecond
	// rosterLife is how long a node may use a roster after it was read. Only a change that nobody has copied to group-events
	// stays unseen so long: that of a foreign producer, or one whose copy failed. At half of it the roster is read again.
	rosterLife = 30 * time.Second
	// staleWait is how long a send waits for the log or the store if an older membership would do, missWait if there is none.
	// After that publishing takes up to 4 s, and the gateway waits 4.5 s in all.
	staleWait = 100 * time.Millisecond
	missWait  = 400 * time.Millisecond
	// storePause is how long nobody asks a store that has just failed.
	storePause = time.Second
	// rosterPause is the least time between two readings of one roster.
	rosterPause   = 20 * time.Millisecond
	rosterTimeout = 2 * time.Second
	maxRosters    = 4096
	// maxCopied is how many copies of changes are remembered, and copyPause the time between two looks for one.
	maxCopied = 4096
	copyPause = 5 * time.Millisecond
	// maxRosterUsers bounds the users in all rosters together, which take 32 MiB.
	maxRosterUsers = 4 << 20
)

// members decides who may send to a group: members who are not muted. It keeps the roster of every group that members send to, and follows group-events
// to know which memberships have changed since. As long as it keeps up with the log, the send of a known member needs no
// question to the store. For users who are unknown, or whose membership has changed lately, it reads their own stays from the
// store, which takes the same time whether or not the group exists. While the store is down, known memberships go on being
// used, as long as the log tells what has changed.
type members struct {
	store   Store
	stored  func(ctx context.Context, conversation string) error // waits until storage has what the log has now
	tasks   *tasks
	changes *follower
	breaker breaker

	mu      sync.Mutex
	rosters *lru.Cache[int64, *roster]
	users   int                          // in all rosters
	copied  *lru.Cache[string, struct{}] // the ids of the events that were seen in group-events lately
	trusted time.Time                    // rosters that were read before this may lack changes
}

func newMembers(
	st Store, topic pubsub.Log, t *tasks, stored func(ctx context.Context, conversation string) error,
) (*members, error) {
	m := &members{store: st, stored: stored, tasks: t}
	rosters, err := lru.NewWithEvict(maxRosters, func(_ int64, r *roster) { m.users -= r.counted })
	if err != nil {
		return nil, err
	}
	m.rosters = rosters
	if m.copied, err = lru.New[string, struct{}](maxCopied); err != nil {
		return nil, err
	}
	m.changes = newFollower(events.TopicGroups, topic, t, nil, func(r *events.Record) {
		m.copied.Add(r.EventID, struct{}{})
		m.changed(&r.Event)
	}, m.missed)
	return m, nil
}

// check returns nil if the user is a member of the group, errNoGroup if it is not, and a transient error if nobody knows.
func (m *members) check(ctx context.Context, user, group int64) error {
	_, err := m.mutedUntil(ctx, user, group)
	return err
}

// mayWrite is like check, and refuses also a member who is muted.
func (m *members) mayWrite(ctx context.Context, user, group int64) error {
	until, err := m.mutedUntil(ctx, user, group)
	if err == nil && until > time.Now().Unix() {
		err = errMuted(group, until)
	}
	return err
}

// mutedUntil returns until when a member is muted, or the error of check.
func (m *members) mutedUntil(ctx context.Context, user, group int64) (int64, error) {
	upToDate := m.changes.upToDate(ctx)
	cached, since := m.roster(group)
	if upToDate && cached.vouchesFor(user, since) {
		return cached.mutedUntil(user), nil
	}
	wait := missWait
	if cached.knows(user) {
		wait = staleWait
	}
	of, g, err := m.ask(ctx, user, group, wait)
	switch {
	case err == nil && !of.member():
		return m.askAgain(ctx, user, group)
	case err == nil:
		m.load(user, g)
		return mutedUntil(g, user), nil
	case upToDate && cached.knows(user) && ctx.Err() == nil:
		return cached.mutedUntil(user), nil
	}
	return 0, fmt.Errorf("membership of user %d in group %d: %w", user, group, err)
}

// askAgain returns errNoGroup unless the store is older than the log, for example because it was put back from a backup, and the
// user turns out to be a member once storage has caught up.
func (m *members) askAgain(ctx context.Context, user, group int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, missWait)
	defer cancel()
	err := m.stored(ctx, events.Group(group))
	var of standing
	var g *store.Group
	if err == nil {
		of, g, err = m.ask(ctx, user, group, missWait)
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("membership of user %d in group %d: %w", user, group, err)
	case !of.member():
		return 0, errNoGroup
	}
	return mutedUntil(g, user), nil
}

// ask asks the store for the user's stays and, if the user is a member, for the group.
func (m *members) ask(ctx context.Context, user, group int64, wait time.Duration) (of standing, g *store.Group, err error) {
	err = m.breaker.call(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		if of, err = m.store.Stays(ctx, user, group); err != nil || !of.member() {
			return err
		}
		read, err := m.store.Group(ctx, group)
		g = &read
		return err
	})
	return of, g, err
}

// roster returns the roster of the group, or nil if there is none, and the time before which a reading of it may lack changes.
func (m *members) roster(group int64) (r *roster, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, _ = m.rosters.Get(group)
	return r, m.trusted
}

// load makes the roster of the group, which the store has just given, be read in the background. Until then the roster knows
// the one member, who can go on sending even if the store is lost at this moment.
func (m *members) load(member int64, g *store.Group) {
	group := g.ID
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rosters.Get(group)
	if !ok {
		r = &roster{users: []int64{member}, group: g, changed: map[int64]time.Time{}}
		r.reads = newShared(m.tasks, rosterPause, rosterTimeout, func(ctx context.Context) (struct{}, error) {
			began := time.Now()
			users, err := m.store.Members(ctx, group)
			if err != nil {
				return struct{}{}, err
			}
			g, err := m.store.Group(ctx, group)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return struct{}{}, err
			}
			m.keep(group, r, users, &g, began)
			return struct{}{}, nil
		})
		m.rosters.Add(group, r)
	}
	if trusted := r.trustedFrom(m.trusted); !ok || r.isFrom().Before(trusted) && !time.Now().Before(trusted) {
		r.reads.start()
	}
}

// keep keeps the roster that was read. If all rosters together are too large, it drops those that were not used for longest.
func (m *members) keep(group int64, r *roster, users []int64, g *store.Group, began time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, ok := m.rosters.Peek(group); !ok || now != r {
		return
	}
	m.users += len(users) - r.counted
	r.counted = len(users)
	r.set(users, g, began)
	for m.users > maxRosterUsers && m.rosters.Len() > 1 {
		m.rosters.RemoveOldest()
	}
}

// sees waits until the event is seen in group-events, and reports whether that was within the time.
func (m *members) sees(ctx context.Context, eventID string, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		_ = m.changes.catchUp(ctx) // a log that cannot be read is asked again
		if m.copied.Contains(eventID) {
			return true
		}
		if sleep(ctx, copyPause); ctx.Err() != nil {
			return false
		}
	}
}

// changed notes a change of a group: from now on the store is asked about the users that it concerns.
func (m *members) changed(e *events.Event) {
	if r, _ := m.roster(e.GroupID); r != nil {
		r.change(e, time.Now())
	}
}

// missed stops all rosters from being used, because changes may have been missed. The changes made before now are stored
// within [storedWait], or their verb has not told anybody that they hold.
func (m *members) missed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusted = time.Now().Add(storedWait)
}

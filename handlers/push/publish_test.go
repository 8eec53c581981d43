package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// userLog is user-events with two partitions, and a store that has everything of it unless behind is set.
type userLog struct {
	mu     sync.Mutex
	all    []string // what was published
	ids    []string // the event ids
	last   map[int64]events.Record
	behind bool
	down   error
}

func newUserLog() *userLog { return &userLog{last: make(map[int64]events.Record)} }

func (l *userLog) PartitionOf(user int64) int32 { return int32(user % 2) }

func (l *userLog) Behind(context.Context) (map[int32]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return map[int32]bool{0: l.behind, 1: l.behind}, nil
}

func (l *userLog) LastSeen(_ context.Context, users []int64) (map[int64]events.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(map[int64]events.Record)
	for _, user := range users {
		if r, ok := l.last[user]; ok {
			found[user] = r
		}
	}
	return found, l.down
}

func (l *userLog) OnlineUsers(_ context.Context, partition int32) (users []int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for user, r := range l.last {
		if l.PartitionOf(user) == partition && r.Type == events.UserOnline {
			users = append(users, user)
		}
	}
	return users, l.down
}

func (l *userLog) Publish(all []events.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return l.down
	}
	for _, e := range all {
		l.all = append(l.all, fmt.Sprint(e.Type, " ", e.User))
		l.ids = append(l.ids, e.EventID)
		l.last[e.User] = events.Record{Event: e, Position: events.Position{Partition: l.PartitionOf(e.User), Seq: int64(len(l.all))}}
	}
	return nil
}

func (l *userLog) fails(behind bool, down error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind, l.down = behind, down
}

// lastOf returns the user's latest record.
func (l *userLog) lastOf(user int64) events.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[user]
}

// eventIDs returns the ids of all events that were published.
func (l *userLog) eventIDs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids)
}

// since returns, and forgets, what was published since the last call.
func (l *userLog) since() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// pushNode is a hub that publishes to the log and reads the partitions.
type pushNode struct {
	*Hub
	t *testing.T
}

func newPushNode(t *testing.T, l *userLog, partitions ...int32) *pushNode {
	t.Helper()
	h := New(Options{Users: l}, admitAll{}, slog.New(slog.DiscardHandler))
	h.Start()
	t.Cleanup(func() { require.NoError(t, h.Stop(context.WithoutCancel(t.Context()))) })
	for _, p := range partitions {
		h.routes.assign(events.Position{Partition: p})
	}
	return &pushNode{h, t}
}

func (n *pushNode) gateway() *gateway {
	g := newGateway(newQueue(n.opts))
	n.routes.attach(g)
	return g
}

func (n *pushNode) moves(g *gateway, user int64, online bool) {
	n.t.Helper()
	require.NoError(n.t, n.routes.change(g, &millracev1.Interest{
		Number: g.interest + 1, Users: []*millracev1.UserInterest{{User: user, Online: online}},
	}))
}

// after lets time pass until the node has published what is due then.
func after(d time.Duration) {
	time.Sleep(d + publishEvery)
	synctest.Wait()
}

const soon = publishEvery

func TestUserIsPublishedOnceOnlineAndOnceOfflineOverAllGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		n := newPushNode(t, l, 0, 1)
		first, second := n.gateway(), n.gateway()
		n.moves(first, 1, true)
		after(soon)
		require.Equal(t, []string{"user_online 1"}, l.since())
		n.moves(second, 1, true)
		n.moves(first, 1, false)
		after(time.Minute)
		require.Empty(t, l.since(), "still online elsewhere")
		begin := time.Now()
		n.routes.detach(second)
		after(offlineAfter - 3*publishEvery)
		require.Empty(t, l.since())
		after(3 * publishEvery)
		require.Equal(t, []string{"user_offline 1"}, l.since(), "a gateway that is gone takes its users with it")
		require.Equal(t, begin.Unix(), l.lastOf(1).Timestamp, "since when")
		n.moves(first, 1, true)
		after(soon)
		require.Equal(t, []string{"user_online 1"}, l.since())
		ids := l.eventIDs()
		slices.Sort(ids)
		require.Len(t, slices.Compact(ids), 3)
		require.False(t, n.routes.moving(), "nothing is kept of users who stay as they are")
	})
}

func TestWhoReconnectsInTimeStaysOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		n := newPushNode(t, l, 0, 1)
		g := n.gateway()
		n.moves(g, 1, true)
		after(soon)
		l.since()
		for range 5 {
			n.moves(g, 1, false)
			after(offlineAfter / 2)
			n.moves(g, 1, true)
		}
		after(time.Minute)
		require.Empty(t, l.since())
	})
}

func TestVisitTooShortToBeSeenIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		n := newPushNode(t, l, 0, 1)
		g := n.gateway()
		n.moves(g, 1, true)
		n.moves(g, 1, false)
		after(soon)
		require.Equal(t, []string{"user_online 1"}, l.since())
		after(time.Minute)
		require.Equal(t, []string{"user_offline 1"}, l.since())
		require.False(t, n.routes.moving(), "nothing is kept of users who stay as they are")
	})
}

func TestOnlyTheNodeThatReadsTheUsersPartitionPublishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		for _, n := range []*pushNode{newPushNode(t, l, 0), newPushNode(t, l, 1), newPushNode(t, l)} {
			g := n.gateway()
			n.moves(g, 1, true)
			n.moves(g, 2, true)
		}
		after(time.Minute)
		require.ElementsMatch(t, []string{"user_online 1", "user_online 2"}, l.since())
	})
}

func TestNodeThatTakesOverPublishesWhatHasChangedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		require.NoError(t, l.Publish([]events.Event{
			{Type: events.UserOnline, User: 1}, {Type: events.UserOnline, User: 3}, {Type: events.UserOffline, User: 5}, {Type: events.UserOnline, User: 2},
		}))
		l.since()
		n := newPushNode(t, l)
		g := n.gateway()
		n.moves(g, 1, true)
		n.moves(g, 5, true)
		after(time.Minute)
		require.Empty(t, l.since(), "another node's")
		n.routes.assign(events.Position{Partition: 1})
		after(offlineAfter)
		require.ElementsMatch(t, []string{"user_offline 3", "user_online 5"}, l.since())
		after(time.Minute)
		require.Empty(t, l.since())
	})
}

func TestTheSameChangeHasTheSameEventIDWhoeverPublishesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other := newUserLog(), newUserLog()
		for _, l := range []*userLog{one, other} {
			n := newPushNode(t, l, 0, 1)
			n.moves(n.gateway(), 1, true)
		}
		after(soon)
		require.Len(t, one.eventIDs(), 1)
		require.Equal(t, one.eventIDs(), other.eventIDs())
	})
}

func TestChangesWaitWhileTheStoreIsBehindOrDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		n := newPushNode(t, l, 0, 1)
		g := n.gateway()
		l.fails(true, nil)
		n.moves(g, 1, true)
		after(time.Minute)
		require.Empty(t, l.since())
		l.fails(false, errors.New("down"))
		n.moves(g, 2, true)
		after(time.Minute)
		require.Empty(t, l.since())
		l.fails(false, nil)
		after(soon)
		require.ElementsMatch(t, []string{"user_online 1", "user_online 2"}, l.since())
	})
}

func TestMoreUsersThanAreRememberedAreComparedOnceTheStoreIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		n := newPushNode(t, l, 0, 1)
		n.routes.presence.moves.most = 3
		g := n.gateway()
		n.moves(g, 1, true)
		n.moves(g, 2, true)
		after(offlineAfter)
		require.ElementsMatch(t, []string{"user_online 1", "user_online 2"}, l.since())
		l.fails(false, errors.New("down"))
		n.moves(g, 1, false)
		for user := range int64(10) {
			n.moves(g, 3+user, true)
		}
		after(time.Minute)
		require.LessOrEqual(t, len(n.routes.presence.moves.users), 3)
		l.fails(false, nil)
		after(2 * offlineAfter)
		want := []string{"user_offline 1"}
		for user := range 10 {
			want = append(want, fmt.Sprint("user_online ", 3+user))
		}
		require.ElementsMatch(t, want, l.since())
	})
}

// While a partition moves, no node reads it. Who comes and goes in that time was there all the same.
func TestVisitBeforeThePartitionIsReadAnywhereIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLog()
		n := newPushNode(t, l)
		g := n.gateway()
		n.moves(g, 1, true)
		after(publishEvery)
		n.moves(g, 1, false)
		after(publishEvery)
		require.Empty(t, l.since())
		n.routes.assign(events.Position{Partition: 1})
		after(2 * offlineAfter)
		require.Equal(t, []string{"user_online 1", "user_offline 1"}, l.since())
	})
}

package push

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
)

// told returns, and removes, what the gateway was told of users since the last call.
func told(s *gateway) (all []string) {
	for f := s.queue.take(); f != nil; f = s.queue.take() {
		for _, p := range f.response.GetPresences() {
			word := " is offline"
			if p.GetOnline() {
				word = " is online"
			}
			all = append(all, map[int64]string{1: "alice", 2: "bob"}[p.GetUser()]+word)
		}
	}
	slices.Sort(all)
	return all
}

func TestWatchersAreToldWhoIsOnlineOnAnyGateway(t *testing.T) {
	routes := newRoutes()
	gateways := make([]*gateway, 3)
	for i := range gateways {
		gateways[i] = newGateway(newQueue(Options{}.withDefaults()))
		routes.attach(gateways[i])
	}
	watcher, first, second := gateways[0], gateways[1], gateways[2]
	tell := func(s *gateway, users ...*millracev1.UserInterest) {
		t.Helper()
		require.NoError(t, routes.change(s, &millracev1.Interest{Number: s.interest + 1, Users: users}))
	}
	const alice, bob = 1, 2
	here := &millracev1.UserInterest{User: alice, Online: true}
	gone := &millracev1.UserInterest{User: alice}
	watched := &millracev1.UserInterest{User: alice, Watched: true}

	tell(first, here)
	tell(watcher, watched, &millracev1.UserInterest{User: bob, Watched: true})
	require.Equal(t, []string{"alice is online", "bob is offline"}, told(watcher), "at once")
	tell(second, here, here)
	tell(first, gone)
	require.Empty(t, told(watcher), "still online elsewhere")
	routes.detach(second)
	require.Equal(t, []string{"alice is offline"}, told(watcher), "a gateway takes its users with it")
	tell(first, here)
	require.Equal(t, []string{"alice is online"}, told(watcher))
	tell(watcher, gone)
	tell(first, gone)
	require.Empty(t, told(watcher), "watches no more")
	tell(watcher, watched)
	require.Equal(t, []string{"alice is offline"}, told(watcher), "watches again")
	routes.detach(watcher)
	routes.detach(first)
	require.Empty(t, routes.presence.online)
	require.Empty(t, routes.presence.watchers)
}

// Twenty thousand users, more than fit into the queue, leave at once while their watcher takes nothing from it.
func TestWatchedUsersNeverFillTheQueue(t *testing.T) {
	routes := newRoutes()
	watcher, other := newGateway(newQueue(Options{}.withDefaults())), newGateway(newQueue(Options{}.withDefaults()))
	routes.attach(watcher)
	routes.attach(other)
	const users = 20_000
	watch, here := &millracev1.Interest{Number: 1}, &millracev1.Interest{Number: 1}
	for user := range int64(users) {
		watch.Users = append(watch.Users, &millracev1.UserInterest{User: user + 1, Watched: true})
		here.Users = append(here.Users, &millracev1.UserInterest{User: user + 1, Online: true})
	}
	require.NoError(t, routes.change(other, here))
	require.NoError(t, routes.change(watcher, watch))

	told := map[int64]bool{}
	takeAll := func() (acked bool) {
		for f := watcher.queue.take(); f != nil; f = watcher.queue.take() {
			require.False(t, acked, "nothing is behind the acknowledgement")
			require.LessOrEqual(t, len(f.response.GetPresences()), framePresences)
			for _, p := range f.response.GetPresences() {
				told[p.GetUser()] = p.GetOnline()
			}
			acked = f.response.GetAck() != nil
		}
		return acked
	}
	online := func() (n int) {
		for _, is := range told {
			if is {
				n++
			}
		}
		return n
	}
	require.True(t, takeAll())
	require.Equal(t, users, online(), "of all before the acknowledgement")

	routes.detach(other)
	require.NoError(t, watcher.queue.cause())
	takeAll()
	require.Len(t, told, users)
	require.Zero(t, online())
}

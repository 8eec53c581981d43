package push

import (
	"testing"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
)

// told takes what the gateway was told of users since it was last asked.
func told(s *stream) (all []string) {
	for f := s.queue.take(); f != nil; f = s.queue.take() {
		for _, p := range f.response.GetPresences() {
			word := " is offline"
			if p.GetOnline() {
				word = " is online"
			}
			all = append(all, map[int64]string{1: "alice", 2: "bob"}[p.GetUser()]+word)
		}
	}
	return all
}

func TestWatchersAreToldWhoIsOnlineOnAnyGateway(t *testing.T) {
	routes := newRoutes()
	gateways := make([]*stream, 3)
	for i := range gateways {
		gateways[i] = newStream(newQueue(Options{}.withDefaults()))
		routes.attach(gateways[i])
	}
	watcher, first, second := gateways[0], gateways[1], gateways[2]
	tell := func(s *stream, users ...*millracev1.UserInterest) {
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

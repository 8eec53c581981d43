package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
)

func (u *user) online(t *testing.T, users ...int64) []int64 {
	t.Helper()
	online, err := u.Presence(t.Context(), users...)
	require.NoError(t, err)
	return online
}

func TestEndToEndPresenceIsAnsweredAndItsChangesArePushed(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := join(t, d.url(), alice, nil)
	require.Equal(t, []int64{alice}, a.online(t, carol, bob, alice, alice))
	b := join(t, d.url(), bob, nil)
	require.EqualValues(t, bob, a.sees(t, "user_online").User)
	require.Equal(t, []int64{alice, bob}, a.online(t, bob, alice))
	require.NoError(t, b.Close())
	require.EqualValues(t, bob, a.sees(t, "user_offline").User)
	require.Empty(t, a.online(t, bob))

	_, err := a.Presence(t.Context(), 0)
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
	_, err = a.Presence(t.Context(), make([]int64, 201)...)
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
}

// A gateway that is killed takes its users with it, and brings them back with itself.
func TestPresenceSpansGatewaysAndOutlivesNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	a := join(t, c.gateways[0], alice, nil)
	b := join(t, c.gateways[1], bob, nil)
	require.Eventually(t, func() bool { // both gateways are attached to the same node by then
		return slices.Equal([]int64{bob}, a.online(t, bob, carol))
	}, patience, 10*time.Millisecond)

	message := c.named("message-1")
	message.kill()
	message.start(t)
	message.awaitReady(t)
	require.Equal(t, []int64{bob}, a.online(t, bob, carol), "one of the push nodes was away")

	gateway := c.named("connect-2")
	gateway.kill()
	require.EqualValues(t, bob, a.sees(t, "user_offline").User)
	gateway.start(t)
	require.EqualValues(t, bob, a.sees(t, "user_online").User)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	c.stopAll()
}

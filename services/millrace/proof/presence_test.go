package proof

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// When a gateway is killed its users are offline, and when it comes back they are online again.
func TestPresenceSpansGatewaysAndOutlivesNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	a := Join(t, c.gateways[0], Alice, nil)
	b := Join(t, c.gateways[1], Bob, nil)
	require.Eventually(t, func() bool { // by then both gateways are attached to the same node
		return slices.Equal([]int64{Bob}, a.Online(t, Bob, Carol))
	}, Patience, 10*time.Millisecond)

	message := c.named("message-1")
	message.kill()
	message.start(t)
	message.awaitReady(t)
	require.Equal(t, []int64{Bob}, a.Online(t, Bob, Carol), "one of the push nodes was away")

	gateway := c.named("connect-2")
	gateway.kill()
	require.EqualValues(t, Bob, a.Sees(t, "user_offline").User)
	gateway.start(t)
	require.EqualValues(t, Bob, a.Sees(t, "user_online").User)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	c.stopAll()
}

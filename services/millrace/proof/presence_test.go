package proof

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
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

// Whatever is killed, user-events have each change of a user once, and soon enough.
func TestUserEventsHaveEachChangeOnceOverAllGatewaysAndDevices(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	a, other := Join(t, c.gateways[0], Alice, nil), Join(t, c.gateways[1], Alice, nil)
	b := Join(t, c.gateways[1], Bob, nil)
	want := []string{"user_online 1001", "user_online 1002"}
	requireUserEvents(t, c.log, Patience, want...)

	message := c.named("message-1")
	message.kill()
	message.start(t)
	message.awaitReady(t)
	c.named("connect-2").kill()
	begin := time.Now()
	want = append(want, "user_offline 1002")
	requireUserEvents(t, c.log, 30*time.Second, want...)
	Await(t, func() bool {
		present, err := a.Presence(t.Context(), Alice, Bob, Carol)
		require.NoError(t, err)
		require.Equal(t, []int64{Alice}, present.Online)
		at := present.LastSeen[Bob]
		require.NotContains(t, present.LastSeen, int64(Alice))
		require.NotContains(t, present.LastSeen, int64(Carol), "never seen")
		return at >= begin.Unix()-1 && at <= time.Now().Unix()
	}, "last seen")

	c.named("connect-2").start(t)
	want = append(want, "user_online 1002")
	requireUserEvents(t, c.log, Patience, want...)
	for _, u := range []*User{a, other, b} {
		require.NoError(t, u.Close())
	}
	requireUserEvents(t, c.log, Patience, append(want, "user_offline 1001", "user_offline 1002")...)
	c.stopAll()
}

// requireUserEvents requires that user-events come to have exactly these events, in any order. Those that repeat an event id
// do not count.
func requireUserEvents(t *testing.T, brokers []string, within time.Duration, want ...string) {
	t.Helper()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(events.TopicUsers))
	require.NoError(t, err)
	defer kafka.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	ids := map[string]bool{}
	var got []string
	for len(got) < len(want) {
		fetches := kafka.PollFetches(ctx)
		require.NoError(t, fetches.Err(), "%v", got)
		fetches.EachRecord(func(r *kgo.Record) {
			e, err := events.Decode(events.TopicUsers, events.Position{Partition: r.Partition, Seq: r.Offset + 1}, r.Value)
			require.NoError(t, err)
			require.Equal(t, e.Key(), string(r.Key))
			if !ids[e.EventID] {
				got = append(got, fmt.Sprint(e.Type, " ", e.User))
			}
			ids[e.EventID] = true
		})
	}
	require.ElementsMatch(t, want, got)
}

package proof

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
)

// A group of 10,000 members has 2,000 of them online at two gateways. Each gateway gets a message of the group once, whatever
// the number of its members, and gives it to its thousand.
func TestMessageToALargeGroupIsOneDeliveryForEachGateway(t *testing.T) {
	const online, messages = 2_000, 20
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*Patience)
	defer cancel()
	gateways := []*process{c.named("connect-1"), c.named("connect-2")}
	empty := []float64{gateways[0].heapInUse(t), gateways[1].heapInUse(t)}

	members := make([]int64, events.MaxGroupMembers-1) // the owner is one more
	for i := range members {
		members[i] = int64(20_001 + i)
	}
	host := Join(t, c.gateways[0], Alice, nil)
	began := time.Now()
	group, err := host.Group(ctx, client.GroupCreate{Name: "all", Members: members})
	require.NoError(t, err)
	created := time.Since(began)

	received := make([]atomic.Int64, online)
	guests := make([]*client.Client, online)
	began = time.Now()
	var connecting errgroup.Group
	connecting.SetLimit(64)
	for i := range guests {
		connecting.Go(func() (err error) {
			guests[i], err = client.Dial(ctx, client.Config{
				URL: c.gateways[i%2], Token: Token(members[i]),
				OnPush: func(p client.Push) {
					if p.Type == events.NewMessage {
						received[i].Add(1)
					}
				},
				OnViolation: func(what string) { t.Errorf("user %d: %s", members[i], what) },
			})
			return err
		})
	}
	require.NoError(t, connecting.Wait())
	joined := time.Since(began)

	var before [][2]float64
	counts := func(p *process) [2]float64 {
		return [2]float64{p.metric(t, "millrace_deliveries_total"), p.metric(t, "millrace_pushes_total")}
	}
	for _, p := range gateways {
		before = append(before, counts(p))
	}
	for _, content := range Numbered(0, messages) {
		host.Sends(t, client.ToGroup(group.GroupID), content)
	}
	EventuallyTrue(t, "everybody has all messages", func() bool {
		for i := range received {
			if received[i].Load() < messages {
				return false
			}
		}
		return true
	})
	for i, p := range gateways {
		after, sessions := counts(p), float64(online/2)
		if i == 0 {
			sessions++ // the host's
		}
		require.Equal(t, before[i][0]+messages, after[0], "one delivery for each message")
		require.Equal(t, before[i][1]+messages*sessions, after[1], "one push for each message and session")
		t.Logf("%s: %.1f KiB of heap for each of %.0f sessions", p.name, (p.heapInUse(t)-empty[i])/sessions/1024, sessions)
	}
	t.Logf("group of %d created in %s, %d members connected in %s",
		events.MaxGroupMembers, created.Round(time.Millisecond), online, joined.Round(time.Millisecond))
	for i, g := range guests {
		require.EqualValues(t, messages, received[i].Load())
		require.NoError(t, g.Close())
	}
	require.NoError(t, host.Close())
	c.stopAll()
}

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

// guest is one of many clients that only listen, with what it got.
type guest struct {
	*client.Client
	received []string
	count    atomic.Int64
}

// A gateway with 9,999 clients is killed while somebody writes to a group of all of them. When the gateway is back the
// clients are too, each with every message once and in order.
func TestHarmReconnectStormBringsEveryClientBackComplete(t *testing.T) {
	NeedsHarm(t)
	const before, during, after = 10, 50, 10
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*Patience)
	defer cancel()

	all := make([]*guest, events.MaxGroupMembers-1) // the owner is one more
	var members []int64
	var connecting errgroup.Group
	connecting.SetLimit(64)
	for i := range all {
		g := &guest{}
		all[i] = g
		id := int64(20_001 + i)
		members = append(members, id)
		connecting.Go(func() (err error) {
			g.Client, err = client.Dial(ctx, client.Config{
				URL: c.gateways[0], Token: Token(id),
				OnPush: func(p client.Push) {
					if p.Type == events.NewMessage {
						g.received = append(g.received, p.Message.Content)
						g.count.Add(1)
					}
				},
				OnViolation: func(what string) { t.Errorf("user %d: %s", id, what) },
			})
			return err
		})
	}
	require.NoError(t, connecting.Wait())
	host := Join(t, c.gateways[1], Alice, nil)
	group, err := host.Group(ctx, client.GroupCreate{Name: "all", Members: members})
	require.NoError(t, err)
	send := func(from, to int) {
		for _, content := range Numbered(from, to) {
			host.Sends(t, client.ToGroup(group.GroupID), content)
		}
	}
	complete := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			for _, g := range all {
				if g.count.Load() < int64(n) {
					return false
				}
			}
			return true
		}, Patience, 10*time.Millisecond)
	}
	send(0, before)
	complete(before)

	gateway := c.named("connect-1")
	gateway.kill()
	send(before, before+during)
	gateway.start(t)
	gateway.awaitReady(t)
	back := time.Now()
	complete(before + during)
	t.Logf("%d clients were complete %s after the gateway was back", len(all), time.Since(back).Round(time.Millisecond))
	send(before+during, before+during+after)
	complete(before + during + after)

	for _, g := range all {
		require.NoError(t, g.Close())
		require.Equal(t, Numbered(0, before+during+after), g.received)
	}
	require.NoError(t, host.Close())
	c.stopAll()
}

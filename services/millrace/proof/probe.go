package proof

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
)

// Probe is a client of the crowd that sends to itself, one message at a time.
type Probe struct {
	*talker
	Conversation string
	pushes       chan client.Push
	sends        int
}

// Probe connects a user of its own, which keeps a journal as the crowd does.
func (c *Crowd) Probe(ctx context.Context, id int64, url string) *Probe {
	c.t.Helper()
	p := &Probe{talker: &talker{ID: id, url: url, journal: c.Journal}, pushes: make(chan client.Push, 1000)}
	p.Conversation = events.Direct(id, id)
	p.heard = func(push client.Push) { p.pushes <- push }
	c.Journal.Members(p.Conversation, id)
	require.NoError(c.t, p.connect(ctx))
	return p
}

// next sends one more message.
func (p *Probe) next(ctx context.Context) error {
	p.sends++
	return p.Say(ctx, client.ToUser(p.ID), fmt.Sprintf("%d-%d", p.ID, p.sends))
}

// sees returns the next push of the probe.
func (p *Probe) sees(t *testing.T) client.Push {
	t.Helper()
	select {
	case push := <-p.pushes:
		return push
	case <-time.After(Healing):
		require.FailNow(t, "not seen", "probe %d", p.ID)
		return client.Push{}
	}
}

// End waits until the probe's conversation is whole, and leaves.
func (p *Probe) End(ctx context.Context, t *testing.T) {
	t.Helper()
	require.NoError(t, p.untilWhole(ctx, p.Conversation))
	require.NoError(t, p.Client.Close())
}

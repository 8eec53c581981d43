package proof

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store/sqlite"
	"millrace/services/client"
)

// Processes are killed at the points where a crash could lose or double a record: after it was published and before that was
// answered, after it was stored and before that was acknowledged, after it was delivered and before that was acknowledged.
// Each process is first frozen, to make sure that it is at that point, and then killed.
func TestHarmKilledBetweenOneStepAndTheNext(t *testing.T) {
	NeedsHarm(t)
	t.Parallel()
	c := startSplitCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	p := crowd.Probe(ctx, Alice+500, c.gateways[0])
	crowd.GoesOn("before")

	c.killBetweenPublishAndAnswer(ctx, crowd, p)
	c.killBetweenStoreAndCommit(ctx, crowd, p)
	c.killBetweenDeliverAndAck(ctx, crowd, p)
	p.End(ctx, t)
	crowd.End(ctx)
	c.stopAll()
}

// The answers to the probe's gateway are held back until another client has got what was sent.
func (c *cluster) killBetweenPublishAndAnswer(ctx context.Context, crowd *Crowd, p *Probe) {
	c.t.Helper()
	witness := crowd.Probe(ctx, p.ID+1, c.gateways[1])
	conversation := events.Direct(p.ID, witness.ID)
	crowd.Journal.Members(conversation, p.ID, witness.ID)
	var heals []func() error
	for _, proxy := range c.proxies[:2] {
		heal, err := swallow(ctx, proxy, "downstream")
		require.NoError(c.t, err)
		heals = append(heals, heal)
	}
	answered := make(chan error, 1)
	go func() { answered <- p.Say(ctx, client.ToUser(witness.ID), "held back") }()
	witness.sees(c.t)
	require.Empty(c.t, answered, "the answer was not held back")
	c.named("message-1").kill()
	c.named("message-2").kill()
	for _, heal := range heals {
		require.NoError(c.t, heal())
	}
	c.bringBack(crowd, "message-1", "message-2")
	require.NoError(c.t, <-answered)
	require.NoError(c.t, p.untilWhole(ctx, conversation))
	p.sees(c.t)
	require.Empty(c.t, p.pushes, "shown once, to its sender")
	require.Empty(c.t, witness.pushes, "and to the other")
	witness.End(ctx, c.t)
}

func (c *cluster) killBetweenStoreAndCommit(ctx context.Context, crowd *Crowd, p *Probe) {
	c.t.Helper()
	db, err := sqlite.Open(ctx, filepath.Join(c.dataDir, "millrace.db"))
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, db.Close()) }()
	c.killAt(ctx, crowd, p, "storage-consumer-group", []string{"storage-1", "storage-2"}, func(at events.Position) {
		require.Eventually(c.t, func() bool {
			stored, err := db.Stored(ctx)
			return err == nil && stored[at.Partition] >= at.Seq
		}, Healing, time.Millisecond)
	})
}

func (c *cluster) killBetweenDeliverAndAck(ctx context.Context, crowd *Crowd, p *Probe) {
	c.t.Helper()
	c.killAt(ctx, crowd, p, "push-consumer-group", []string{"message-1", "message-2"}, func(events.Position) {})
}

// killAt makes the probe send until the processes are caught after the step and before the group has acknowledged it.
func (c *cluster) killAt(ctx context.Context, crowd *Crowd, p *Probe, group string, processes []string, step func(events.Position)) {
	c.t.Helper()
	for tries := 1; ; tries++ {
		require.Less(c.t, tries, 100, "never caught before it acknowledged")
		require.NoError(c.t, p.next(ctx))
		at, err := events.ParsePosition(p.sees(c.t).Pos)
		require.NoError(c.t, err)
		step(at)
		for _, name := range processes {
			c.named(name).signal(c.t, syscall.SIGSTOP)
		}
		if committed := c.committed(ctx, group, at.Partition); committed < at.Seq {
			c.t.Logf("%s is at %d, the step at %d, try %d", group, committed, at.Seq, tries)
			for _, name := range processes {
				c.named(name).kill()
			}
			c.bringBack(crowd, processes...)
			EventuallyTrue(c.t, "the step has been taken again", func() bool { return c.committed(ctx, group, at.Partition) >= at.Seq })
			return
		}
		for _, name := range processes {
			c.named(name).signal(c.t, syscall.SIGCONT)
		}
	}
}

// bringBack starts processes that were killed and waits until the crowd is served as before.
func (c *cluster) bringBack(crowd *Crowd, processes ...string) {
	c.t.Helper()
	watch := crowd.watches.start()
	for _, name := range processes {
		c.named(name).start(c.t)
	}
	require.Eventually(c.t, func() bool {
		acked, delivered := crowd.watches.of(watch)
		return acked > 0 && delivered > 0
	}, Healing, 10*time.Millisecond)
	acked, delivered := crowd.watches.of(watch)
	c.t.Logf("%v killed: everybody was answered again after %s and shown again after %s", processes, acked, delivered)
}

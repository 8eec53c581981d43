package proof

import (
	"context"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// One gateway and one push node can no longer reach each other while their connection stays open. Another gateway hangs,
// which leaves its connections half open for the nodes. Both ends notice. Meanwhile the gateway reads from the log what the
// node would have sent, and in the end nothing is missing.
func TestHarmConnectionThatIsDeadButOpen(t *testing.T) {
	NeedsHarm(t)
	t.Parallel()
	c := startSplitCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	crowd.GoesOn("before")

	gateway, hung := c.named("connect-1"), c.named("connect-2")
	probes := make([]*Probe, 8)
	for i := range probes {
		probes[i] = crowd.Probe(ctx, int64(Alice+500+i), c.gateways[0])
	}
	nodes := []*process{c.named("message-1"), c.named("message-2")}
	ended := func() (n float64) {
		for _, node := range nodes {
			n += node.metric(t, "grpc_server_handled_total", `grpc_method="Attach"`)
		}
		return n
	}
	before := ended()
	const lost = `msg="not attached to push node"`
	losses := gateway.count(t, lost)
	var heals []func() error
	for _, direction := range []string{"upstream", "downstream"} {
		heal, err := swallow(ctx, c.proxies[0], direction)
		require.NoError(t, err)
		heals = append(heals, heal)
	}
	hung.signal(t, syscall.SIGSTOP)
	watch := crowd.watches.start()
	EventuallyTrue(t, "the gateway has noticed", func() bool { return gateway.count(t, lost) > losses })
	// The stream that was cut, and those of the gateway that hangs.
	EventuallyTrue(t, "the nodes have noticed", func() bool { return ended() >= before+3 })
	crowd.GoesOn("while they are apart")
	for _, p := range probes { // some in partitions of the node that is cut off
		require.NoError(t, p.next(ctx))
	}
	for _, p := range probes {
		p.sees(t)
	}
	t.Log("all is shown while they are apart")
	hung.signal(t, syscall.SIGCONT)
	for _, heal := range heals {
		require.NoError(t, heal())
	}
	EventuallyTrue(t, "everybody was shown a message again", func() bool {
		_, delivered := crowd.watches.of(watch)
		return delivered > 0
	})
	for _, p := range probes {
		p.End(ctx, t)
	}
	crowd.End(ctx)
	c.stopAll()
}

// A push node that no gateway knows takes over partitions, handles records, and dies. The gateways read from the log what it
// had handled.
func TestHarmPushNodeThatNobodyKnewDies(t *testing.T) {
	NeedsHarm(t)
	t.Parallel()
	c := &cluster{t: t, dataDir: t.TempDir()}
	// Each of three push nodes gets one partition, and the crowd's conversations lie in all three.
	c.startEmbedded("--topic-partitions=3")
	ctx, cancel := context.WithTimeout(t.Context(), 6*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	used := map[int32]bool{}
	for i, k := range crowd.Talkers {
		used[events.Partition(events.Direct(k.ID, crowd.peer(i)), 3)] = true
	}
	require.Len(t, used, 3)
	crowd.GoesOn("before")
	stranger := c.another("message-3", "message-1", "--message-addr="+FreeAddresses(t, 1)[0], "--handlers=push")
	EventuallyTrue(t, "the stranger has handled records", func() bool {
		return stranger.metric(t, "millrace_handler_records_total", `handler="push"`, `outcome="handled"`) >= 100
	})
	watch := crowd.watches.start()
	stranger.kill()
	EventuallyTrue(t, "everybody was shown a message again", func() bool {
		_, delivered := crowd.watches.of(watch)
		return delivered > 0
	})
	crowd.End(ctx)
	c.stopAll()
}

package proof

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// another adds and starts a process like an existing one, with other flags.
func (c *cluster) another(name, like string, flags ...string) *process {
	c.t.Helper()
	p := c.addLike(name, like, flags...)
	p.start(c.t)
	p.awaitReady(c.t)
	return p
}

// addLike adds a process like an existing one, with other flags.
func (c *cluster) addLike(name, like string, flags ...string) *process {
	c.t.Helper()
	admin := FreeAddresses(c.t, 1)[0]
	flags = append(flags, "--admin-addr="+admin)
	args := slices.DeleteFunc(slices.Clone(c.named(like).args), func(arg string) bool {
		return slices.ContainsFunc(flags, func(flag string) bool {
			name, _, _ := strings.Cut(flag, "=")
			return strings.HasPrefix(arg, name+"=")
		})
	})
	c.add(name, readyURL(admin), append(args, flags...)...)
	return c.named(name)
}

// Nodes of every role come and go while clients on three gateways count. No gateway knows one of the message nodes: it gets
// partitions all the same, and gateways read from the log what it handles.
func TestKafkaWithNodesThatComeAndGoLosesDoublesAndDisordersNothing(t *testing.T) {
	c := startOnKafka(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 6*Healing)
	defer cancel()
	third := FreeAddresses(t, 1)[0]
	gateway := c.another("connect-3", "connect-1", "--connect-addr="+third)
	c.gateways = append(c.gateways, "ws://"+third+"/ws")
	crowd := StartCrowd(ctx, t, c.gateways)
	crowd.GoesOn("before")

	storage := []*process{
		c.another("storage-1", "worker", "--handlers=storage"),
		c.another("storage-2", "worker", "--handlers=storage"),
	}
	crowd.GoesOn("with two more workers")
	stranger := c.another("message-3", "message-1", "--message-addr="+FreeAddresses(t, 1)[0])
	crowd.GoesOn("with a message node that no gateway knows")
	storage[0].stop(t)
	crowd.GoesOn("with one worker less")
	gateway.stop(t)
	<-time.After(time.Second) // the gateway is missed
	gateway.start(t)
	gateway.awaitReady(t)
	crowd.GoesOn("after a gateway was replaced")
	stranger.stop(t)
	crowd.GoesOn("without the stranger")
	crowd.End(ctx)
	storage[1].stop(t)
	gateway.stop(t)
	c.stopAll()
}

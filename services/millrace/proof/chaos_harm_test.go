package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"millrace/services/client"
)

// chaos inflicts faults on a cluster and the crowd on it.
type chaos struct {
	cluster *cluster
	crowd   *Crowd
	figures *figures
	dispute *dispute
	losing  sync.Mutex // held by the loss under way
}

// inflict inflicts the fault and returns when it is over. It does not judge whether the system recovers.
func (c *chaos) inflict(ctx context.Context, f fault) error {
	if p := c.cluster.find(f.Target); p != nil {
		p.harmed.Lock()
		defer p.harmed.Unlock()
	}
	switch f.Harm {
	case topicLost, logCut, storeBack:
		return c.lose(ctx, f)
	case killed:
		p := c.cluster.named(f.Target)
		p.kill()
		Wait(ctx, f.For)
		return p.run(ctx)
	case frozen:
		p := c.cluster.named(f.Target)
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		Wait(ctx, f.For)
		return p.cmd.Process.Signal(syscall.SIGCONT)
	case renewed:
		p := c.cluster.named(f.Target)
		// How the process ends is checked where nothing else is broken.
		if err := p.halt(); errors.Is(err, context.Canceled) {
			return err
		}
		return p.run(ctx)
	case joined:
		p := c.cluster.named(f.Target)
		if err := p.run(ctx); err != nil {
			return err
		}
		Wait(ctx, f.For)
		p.kill()
		return nil
	case cutOff:
		proxy := c.cluster.proxies[f.index]
		proxy.Stop()
		Wait(ctx, f.For)
		return proxy.Start()
	case slowed:
		heal, err := slow(ctx, c.cluster.proxies[f.index])
		if err != nil {
			return err
		}
		Wait(ctx, f.For)
		return heal()
	case dropped:
		c.crowd.Talkers[f.index].network.cut(f.bytes)
		return nil
	case stalled:
		goOn := c.crowd.Talkers[f.index].network.pause()
		Wait(ctx, f.For)
		goOn()
		return nil
	case garbled:
		return c.garble(ctx, f.For)
	case repeated:
		return c.crowd.repeatOverBoth(ctx, c.cluster.gateways, f.index, f.For)
	}
	return fmt.Errorf("no such harm: %s", f.Harm)
}

// garble opens sockets of its own to the gateways and writes for the duration what no client would write.
func (c *chaos) garble(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	frames := []string{"", "{", "[]", "null", `{"id":1}`, `{"id":-1,"ping":{}}`, `{"id":1,"ping":{},"read":{}}`, "\xff\xfe", `{"id":1e99,"send":{}}`}
	for i := 0; ctx.Err() == nil; i++ {
		conn, err := client.Open(ctx, c.cluster.gateways[i%len(c.cluster.gateways)], nil, nil)
		if err != nil {
			Wait(ctx, sendEvery) // the gateway may be away
			continue
		}
		for range 20 {
			if conn.WriteText([]byte(frames[rand.N(len(frames))])) != nil {
				break
			}
		}
		_ = conn.Cut()
		Wait(ctx, 10*time.Millisecond)
	}
	return nil
}

package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
)

// listener is a client that notes what it got and when, and the codes with which it was closed.
type listener struct {
	*client.Client
	network network

	mu       sync.Mutex
	received []string
	took     []time.Duration // since the sender wrote it
	codes    []int
}

// writtenAt returns when the content was written, which its first word says.
func writtenAt(content string) time.Time {
	var nanos int64
	_, _ = fmt.Sscan(content, &nanos)
	return time.Unix(0, nanos)
}

func listen(ctx context.Context, url string, id int64) (*listener, error) {
	l := &listener{}
	var err error
	l.Client, err = client.Dial(ctx, client.Config{
		URL: url, Token: Token(id), NetDial: l.dial,
		OnPush: func(p client.Push) {
			if p.Type != events.NewMessage {
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			stamp, _, _ := strings.Cut(p.Message.Content, " ")
			l.received = append(l.received, stamp)
			l.took = append(l.took, time.Since(writtenAt(p.Message.Content)))
		},
		OnDisconnect: func(err error, _ time.Duration) {
			l.mu.Lock()
			defer l.mu.Unlock()
			var closed *client.CloseError
			if errors.As(err, &closed) {
				l.codes = append(l.codes, closed.Code)
			}
		},
	})
	return l, err
}

// dial makes a connection for which the kernel does not read megabytes ahead.
func (l *listener) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	conn, err := l.network.dial(ctx, kind, address)
	if over, ok := conn.(*networkConn); ok {
		if tcp, ok := over.Conn.(*net.TCPConn); ok {
			err = tcp.SetReadBuffer(64 << 10)
		}
	}
	return conn, err
}

// takeTook returns how long the pushes since the last call took.
func (l *listener) takeTook() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := l.took
	l.took = nil
	return took
}

func (l *listener) has(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.received) >= n
}

// Of 500 clients of a gateway 50 stop reading while much is written to them. They are closed with 4008, and what waits for
// them is bounded. The others get everything meanwhile, and the 50 have everything once they read again.
func TestHarmSlowReaders(t *testing.T) {
	NeedsHarm(t)
	const clients, slow, rounds, burst = 500, 50, 20, 8
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*Healing)
	defer cancel()
	gateway := c.named("connect-1")
	all := make([]*listener, clients)
	var ids []int64
	var connecting errgroup.Group
	connecting.SetLimit(32)
	for i := range all {
		id := int64(30_000 + i)
		ids = append(ids, id)
		connecting.Go(func() (err error) {
			all[i], err = listen(ctx, c.gateways[0], id)
			return err
		})
	}
	require.NoError(t, connecting.Wait())
	host := Join(t, c.gateways[1], Alice, nil)
	group := func(members []int64) client.Target {
		g, err := host.Group(ctx, client.GroupCreate{Name: "g", Members: members})
		require.NoError(t, err)
		return client.ToGroup(g.GroupID)
	}
	everybody, few := group(ids), group(ids[:slow])
	var toAll, toFew []string
	large := strings.Repeat("x", 24<<10)
	round := func() {
		var sending []*client.Sending
		write := func(target client.Target, list *[]string, rest string) {
			stamp := fmt.Sprint(time.Now().UnixNano())
			*list = append(*list, stamp)
			sending = append(sending, host.Post(ctx, client.Send{Target: target, Content: stamp + " " + rest}))
		}
		for range burst {
			write(few, &toFew, large)
		}
		write(everybody, &toAll, "")
		for _, s := range sending {
			_, err := s.Wait()
			require.NoError(t, err)
		}
	}
	quick := all[slow:]
	tookOf := func() time.Duration {
		var took []time.Duration
		for _, l := range quick {
			took = append(took, l.takeTook()...)
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	complete := func(what string, listeners []*listener, n func() int) {
		t.Helper()
		EventuallyTrue(t, what, func() bool {
			return !slices.ContainsFunc(listeners, func(l *listener) bool { return !l.has(n()) })
		})
	}

	// Everybody reads.
	for range rounds {
		round()
	}
	complete("everybody has everything", quick, func() int { return len(toAll) })
	complete("so do those that are written much to", all[:slow], func() int { return len(toAll) + len(toFew) })
	without := tookOf()
	heap := gateway.heapInUse(t)

	// Fifty do not.
	var goOn []func()
	for _, l := range all[:slow] {
		goOn = append(goOn, l.network.pause())
	}
	waits, heapMost := 0.0, 0.0
	closed := func() float64 { return gateway.metric(t, "millrace_closes_total", `code="4008"`) }
	for i := 0; closed() < slow; i++ {
		require.Less(t, i, 2*rounds, "those that do not read are not closed")
		round()
		waits = max(waits, gateway.metric(t, "millrace_connection_queue_bytes"))
		heapMost = max(heapMost, gateway.heapInUse(t))
	}
	for _, goOn := range goOn {
		goOn()
	}
	complete("the others have everything", quick, func() int { return len(toAll) })
	with := tookOf()
	complete("the slow ones have everything", all[:slow], func() int { return len(toAll) + len(toFew) })

	require.InDelta(t, slow, closed(), 0, "closed as too slow")
	told := 0
	for i, l := range all {
		require.NoError(t, l.Close())
		var want []string
		if i < slow {
			want = slices.Concat(toAll, toFew)
			slices.Sort(want) // the stamps have one length
			// A client that reads again only after the gateway has given up waiting is cut off.
			for _, code := range l.codes {
				require.Equal(t, client.CloseTooSlow, code, "client %d", i)
				told++
			}
		} else {
			want = toAll
			require.Empty(t, l.codes, "client %d", i)
		}
		got := slices.Clone(l.received)
		slices.Sort(got)
		require.Equal(t, want, got, "client %d", i)
	}
	const outbox = 1 << 20 // what may wait for one client
	require.Less(t, waits, float64(slow*outbox+4*outbox), "bytes that wait")
	require.Less(t, heapMost-heap, float64(slow*outbox), "growth of the heap")
	require.Positive(t, told)
	t.Logf("%d of %d were told why", told, slow)
	t.Logf("delivered to the others: p99 %s, with %d slow readers %s; at most %.1f MB waited; heap %.1f MB, then %.1f MB",
		without, slow, with, waits/1e6, heap/1e6, heapMost/1e6)
	c.stopAll()
}

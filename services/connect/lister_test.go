package connect

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// FakeResolver is a DNS of one's own.
type FakeResolver struct {
	mu    sync.Mutex
	hosts map[string][]netip.Addr
	fault error
	looks int
}

// Set has the host stand for the addresses.
func (r *FakeResolver) Set(host string, addresses ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hosts == nil {
		r.hosts = map[string][]netip.Addr{}
	}
	r.hosts[host] = nil
	for _, address := range addresses {
		r.hosts[host] = append(r.hosts[host], netip.MustParseAddr(address))
	}
}

func (r *FakeResolver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = err
}

func (r *FakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	if r.fault != nil {
		return nil, r.fault
	}
	return slices.Clone(r.hosts[host]), nil
}

func (r *FakeResolver) lookups() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks
}

// fleet is what a lister keeps: nodes whose streams run until the test breaks them. It runs in a bubble.
type fleet struct {
	t        *testing.T
	resolver *FakeResolver

	mu      sync.Mutex
	streams map[string]context.CancelFunc // by name and address, as dialed
	down    map[string]bool               // have no stream
	open    map[string]int                // connections
}

type fleetConn struct {
	grpc.ClientConnInterface
	dialed string
	fleet  *fleet
}

func (c *fleetConn) Close() error {
	c.fleet.mu.Lock()
	defer c.fleet.mu.Unlock()
	c.fleet.open[c.dialed]--
	return nil
}

// newFleet runs a lister of the names, which stand for what the resolver says.
func newFleet(t *testing.T, resolver *FakeResolver, names ...string) *fleet {
	f := &fleet{t: t, resolver: resolver, streams: map[string]context.CancelFunc{}, down: map[string]bool{}, open: map[string]int{}}
	l := &Lister{Names: names, Resolver: resolver, Every: time.Minute, Dial: func(name, address string) (Conn, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		c := &fleetConn{dialed: name + " " + address, fleet: f}
		f.open[c.dialed]++
		return c, nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		l.run(ctx, slog.New(slog.DiscardHandler), f.serve)
	}()
	t.Cleanup(func() {
		cancel()
		<-ran
		f.wants()
	})
	return f
}

func (f *fleet) serve(ctx context.Context, n *node) {
	dialed := n.conn.(*fleetConn).dialed
	n.keepTrying(ctx, func() error {
		f.mu.Lock()
		down := f.down[dialed]
		stream, cancel := context.WithCancel(ctx)
		defer cancel()
		if !down {
			f.streams[dialed] = cancel
		}
		f.mu.Unlock()
		if down {
			return errors.New("down")
		}
		<-stream.Done()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.streams, dialed)
		return stream.Err()
	}, func(error) {})
}

// wants holds the streams to be those, and the connections with them.
func (f *fleet) wants(streams ...string) {
	f.t.Helper()
	f.connects(streams...)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.ElementsMatch(f.t, streams, slices.Collect(maps.Keys(f.streams)))
}

// connects holds the connections to be those.
func (f *fleet) connects(dialed ...string) {
	f.t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	var open []string
	for d, n := range f.open {
		open = append(open, slices.Repeat([]string{d}, n)...)
	}
	require.ElementsMatch(f.t, dialed, open)
}

// breaks ends the node's stream; it has no other until it is up.
func (f *fleet) breaks(dialed string) {
	f.t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down[dialed] = true
	require.Contains(f.t, f.streams, dialed)
	f.streams[dialed]()
}

func (f *fleet) up(dialed string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down[dialed] = false
}

// poll waits for the next look at the names.
func (f *fleet) poll() {
	synctest.Wait()
	before := f.resolver.lookups()
	<-time.After(time.Minute)
	synctest.Wait()
	require.Greater(f.t, f.resolver.lookups(), before)
}

func TestANameStandsForAllItsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &FakeResolver{}
		r.Set("nodes", "10.0.0.1", "10.0.0.2")
		f := newFleet(t, r, "nodes:1")
		f.wants("nodes:1 10.0.0.1:1", "nodes:1 10.0.0.2:1")
		r.Set("nodes", "10.0.0.2", "10.0.0.1", "10.0.0.3")
		f.wants("nodes:1 10.0.0.1:1", "nodes:1 10.0.0.2:1")
		f.poll()
		f.wants("nodes:1 10.0.0.1:1", "nodes:1 10.0.0.2:1", "nodes:1 10.0.0.3:1")
	})
}

func TestANodeOfTwoNamesOrFamiliesIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &FakeResolver{}
		r.Set("nodes", "fd00::1", "10.0.0.1", "::ffff:10.0.0.1")
		r.Set("six", "fd00::2", "fd00::3")
		r.Set("localhost", "127.0.0.1", "::1")
		f := newFleet(t, r, "nodes:1", "nodes:1", "six:1", ":1")
		f.wants("nodes:1 10.0.0.1:1", "six:1 [fd00::2]:1", "six:1 [fd00::3]:1", ":1 127.0.0.1:1")
	})
}

func TestANodeWhoseAddressIsGoneLastsAsLongAsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &FakeResolver{}
		r.Set("nodes", "10.0.0.1", "10.0.0.2")
		f := newFleet(t, r, "nodes:1")
		f.wants("nodes:1 10.0.0.1:1", "nodes:1 10.0.0.2:1")
		r.Set("nodes", "10.0.0.2")
		for range 3 {
			f.poll()
			f.wants("nodes:1 10.0.0.1:1", "nodes:1 10.0.0.2:1")
		}
		f.breaks("nodes:1 10.0.0.1:1")
		f.up("nodes:1 10.0.0.1:1")
		f.wants("nodes:1 10.0.0.2:1")
		f.poll()
		f.wants("nodes:1 10.0.0.2:1")

		r.Set("nodes", "10.0.0.1", "10.0.0.2")
		f.poll()
		f.wants("nodes:1 10.0.0.1:1", "nodes:1 10.0.0.2:1")
	})
}

func TestANodeThatIsListedAgainInTimeStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &FakeResolver{}
		r.Set("nodes", "10.0.0.1")
		f := newFleet(t, r, "nodes:1")
		f.wants("nodes:1 10.0.0.1:1")
		r.Set("nodes")
		f.poll()
		r.Set("nodes", "10.0.0.1")
		f.poll()
		f.breaks("nodes:1 10.0.0.1:1")
		f.up("nodes:1 10.0.0.1:1")
		<-time.After(2 * longPause)
		f.wants("nodes:1 10.0.0.1:1")
	})
}

func TestABrokenStreamHasTheNamesLookedUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &FakeResolver{}
		r.Set("nodes", "10.0.0.1")
		f := newFleet(t, r, "nodes:1")
		f.wants("nodes:1 10.0.0.1:1")
		r.Set("nodes", "10.0.0.2")
		broken := time.Now()
		f.breaks("nodes:1 10.0.0.1:1")
		f.connects("nodes:1 10.0.0.1:1", "nodes:1 10.0.0.2:1")
		require.Equal(t, broken, time.Now())
		<-time.After(time.Second) // tried once more
		f.wants("nodes:1 10.0.0.2:1")
	})
}

func TestANodeThatIsDownIsTriedAgainWhileItIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &FakeResolver{}
		r.Set("nodes", "10.0.0.1")
		f := newFleet(t, r, "nodes:1")
		f.breaks("nodes:1 10.0.0.1:1")
		f.poll()
		f.poll()
		require.Equal(t, 4, r.lookups(), "not at every attempt")
		f.connects("nodes:1 10.0.0.1:1")
		f.up("nodes:1 10.0.0.1:1")
		<-time.After(2 * longPause)
		f.wants("nodes:1 10.0.0.1:1")
	})
}

func TestWhereNothingCanBeLearntNodesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &FakeResolver{}
		r.Set("nodes", "10.0.0.1")
		r.fail(errors.New("no such host"))
		f := newFleet(t, r, "nodes:1")
		f.wants()
		r.fail(nil)
		f.poll()
		f.wants("nodes:1 10.0.0.1:1")
		r.fail(errors.New("no such host"))
		for range 3 {
			f.poll()
			f.breaks("nodes:1 10.0.0.1:1")
			f.up("nodes:1 10.0.0.1:1")
			<-time.After(2 * longPause)
			f.wants("nodes:1 10.0.0.1:1")
		}
	})
}

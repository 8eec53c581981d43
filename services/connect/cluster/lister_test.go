package cluster

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

// fakeResolver is a DNS that the test controls.
type fakeResolver struct {
	mu    sync.Mutex
	hosts map[string][]netip.Addr
	fault error
	looks int
}

// set makes the host resolve to the addresses.
func (r *fakeResolver) set(host string, addresses ...string) {
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

func (r *fakeResolver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = err
}

func (r *fakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	if r.fault != nil {
		return nil, r.fault
	}
	return slices.Clone(r.hosts[host]), nil
}

func (r *fakeResolver) lookups() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks
}

// fleet has a lister whose nodes have streams that run until the test breaks them. It runs in a synctest bubble.
type fleet struct {
	t        *testing.T
	resolver *fakeResolver

	mu      sync.Mutex
	streams map[string]context.CancelFunc // by name and address, as dialed
	down    bool                          // while set, the first node has no stream
	dialed  map[Conn]string               // connections that are open
}

// first is the node that tests break, as dialed.
const first = "nodes:1 10.0.0.1:1"

type fleetConn struct {
	grpc.ClientConnInterface
	fleet *fleet
}

func (c *fleetConn) Close() error {
	c.fleet.mu.Lock()
	defer c.fleet.mu.Unlock()
	delete(c.fleet.dialed, c)
	return nil
}

// newFleet runs a lister of the names with the resolver.
func newFleet(t *testing.T, resolver *fakeResolver, names ...string) *fleet {
	f := &fleet{t: t, resolver: resolver, streams: map[string]context.CancelFunc{}, dialed: map[Conn]string{}}
	l := &Lister{Names: names, Resolver: resolver, Every: time.Minute, Dial: func(name, address string) (Conn, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		c := &fleetConn{fleet: f}
		f.dialed[c] = name + " " + address
		return c, nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		l.Run(ctx, slog.New(slog.DiscardHandler), f.serve)
	}()
	t.Cleanup(func() {
		cancel()
		<-ran
		f.wants()
	})
	return f
}

func (f *fleet) serve(ctx context.Context, n *Node) {
	n.KeepTrying(ctx, func() error {
		f.mu.Lock()
		dialed := f.dialed[n.Conn]
		down := f.down && dialed == first
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

// wants requires that exactly these streams run, with a connection each.
func (f *fleet) wants(streams ...string) {
	f.t.Helper()
	f.connects(streams...)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.ElementsMatch(f.t, streams, slices.Collect(maps.Keys(f.streams)))
}

// connects requires that exactly these connections are open.
func (f *fleet) connects(dialed ...string) {
	f.t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.ElementsMatch(f.t, dialed, slices.Collect(maps.Values(f.dialed)))
}

// breaks ends the stream of the first node, which gets no other until it is up.
func (f *fleet) breaks() {
	f.t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = true
	require.Contains(f.t, f.streams, first)
	f.streams[first]()
}

func (f *fleet) up() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = false
}

// poll waits for the next lookup of the names.
func (f *fleet) poll() {
	synctest.Wait()
	before := f.resolver.lookups()
	<-time.After(time.Minute)
	synctest.Wait()
	require.Greater(f.t, f.resolver.lookups(), before)
}

func TestANameStandsForAllItsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		r.set("nodes", "10.0.0.1", "10.0.0.2")
		f := newFleet(t, r, "nodes:1")
		f.wants(first, "nodes:1 10.0.0.2:1")
		r.set("nodes", "10.0.0.2", "10.0.0.1", "10.0.0.3")
		f.wants(first, "nodes:1 10.0.0.2:1")
		f.poll()
		f.wants(first, "nodes:1 10.0.0.2:1", "nodes:1 10.0.0.3:1")
	})
}

func TestANodeOfTwoNamesOrFamiliesIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		r.set("nodes", "fd00::1", "10.0.0.1", "::ffff:10.0.0.1")
		r.set("six", "fd00::2", "fd00::3")
		r.set("localhost", "127.0.0.1", "::1")
		f := newFleet(t, r, "nodes:1", "nodes:1", "six:1", ":1")
		f.wants(first, "six:1 [fd00::2]:1", "six:1 [fd00::3]:1", ":1 127.0.0.1:1")
	})
}

func TestANodeWhoseAddressIsGoneLastsAsLongAsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		r.set("nodes", "10.0.0.1", "10.0.0.2")
		f := newFleet(t, r, "nodes:1")
		f.wants(first, "nodes:1 10.0.0.2:1")
		r.set("nodes", "10.0.0.2")
		for range 3 {
			f.poll()
			f.wants(first, "nodes:1 10.0.0.2:1")
		}
		f.breaks()
		f.up()
		f.wants("nodes:1 10.0.0.2:1")
		f.poll()
		f.wants("nodes:1 10.0.0.2:1")

		r.set("nodes", "10.0.0.1", "10.0.0.2")
		f.poll()
		f.wants(first, "nodes:1 10.0.0.2:1")
	})
}

func TestANodeThatIsListedAgainInTimeStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		r.set("nodes", "10.0.0.1")
		f := newFleet(t, r, "nodes:1")
		f.wants(first)
		r.set("nodes")
		f.poll()
		r.set("nodes", "10.0.0.1")
		f.poll()
		f.breaks()
		f.up()
		<-time.After(2 * LongPause)
		f.wants(first)
	})
}

func TestABrokenStreamHasTheNamesLookedUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		r.set("nodes", "10.0.0.1")
		f := newFleet(t, r, "nodes:1")
		f.wants(first)
		r.set("nodes", "10.0.0.2")
		broken := time.Now()
		f.breaks()
		f.connects(first, "nodes:1 10.0.0.2:1")
		require.Equal(t, broken, time.Now())
		<-time.After(time.Second) // it was tried once more
		f.wants("nodes:1 10.0.0.2:1")
	})
}

func TestANodeThatIsDownIsTriedAgainWhileItIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		r.set("nodes", "10.0.0.1")
		f := newFleet(t, r, "nodes:1")
		f.breaks()
		f.poll()
		f.poll()
		require.Equal(t, 4, r.lookups(), "not at every attempt")
		f.connects(first)
		f.up()
		<-time.After(2 * LongPause)
		f.wants(first)
	})
}

func TestWhereNothingCanBeLearntNodesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		r.set("nodes", "10.0.0.1")
		r.fail(errors.New("no such host"))
		f := newFleet(t, r, "nodes:1")
		f.wants()
		r.fail(nil)
		f.poll()
		f.wants(first)
		r.fail(errors.New("no such host"))
		for range 3 {
			f.poll()
			f.breaks()
			f.up()
			<-time.After(2 * LongPause)
			f.wants(first)
		}
	})
}

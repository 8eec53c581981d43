package cluster

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"millrace/infra/panics"
)

// lookupTimeout bounds one lookup of a name.
const lookupTimeout = 5 * time.Second

// Conn is a connection to a node. While the node is down, calls fail at once and the connection is tried again.
type Conn interface {
	grpc.ClientConnInterface
	io.Closer
}

// Resolver looks up the addresses of a host, as a [net.Resolver] does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Lister lists the nodes of one kind: one for every address that its names resolve to. It asks the resolver at intervals, and
// as soon as the stream to a node breaks. A node whose address is gone is kept as long as its stream, because a node that
// drains still answers and delivers. If the resolver fails, the known nodes stay.
type Lister struct {
	// Names lists host:port pairs. If a host has both IPv4 and IPv6 addresses only the former are used, because both lead to
	// the same nodes.
	Names    []string
	Resolver Resolver
	// Dial makes a connection to an address of the name. The lister closes the connection when the node is gone.
	Dial func(name, address string) (Conn, error)
	// Every is the time between two lookups of the names (2 s).
	Every time.Duration
	// Panics contains panics in the streams to the nodes, which are then opened again. It may be nil.
	Panics *panics.Panics

	log    *slog.Logger
	again  chan struct{}
	mu     sync.Mutex
	looked map[string][]string // by name
	nodes  map[string]*Node    // by address
}

// Node is a message or push node.
type Node struct {
	Name   string // its address, for logs
	Conn   Conn
	lister *Lister
	listed bool // guarded by the lister's lock
}

// Run keeps the list until the context ends. It calls serve for each node; serve must return when its context ends or the
// node is gone ([Node.KeepTrying]). Run returns when all that it has started has ended.
func (l *Lister) Run(ctx context.Context, log *slog.Logger, serve func(context.Context, *Node)) {
	l.Every = cmp.Or(l.Every, 2*time.Second)
	l.log, l.again = log, make(chan struct{}, 1)
	l.looked, l.nodes = map[string][]string{}, map[string]*Node{}
	var wg sync.WaitGroup
	defer wg.Wait()
	failing := map[string]bool{}
	for ctx.Err() == nil {
		for _, name := range l.Names {
			addresses, err := l.lookup(ctx, name)
			if err != nil {
				if !failing[name] && ctx.Err() == nil {
					log.Warn("cannot look up nodes; those known stay", "name", name, "error", err)
				}
				failing[name] = true
				continue
			}
			failing[name] = false
			for _, n := range l.list(name, addresses) {
				wg.Go(func() {
					l.Panics.Keep(ctx, func(ctx context.Context) { serve(ctx, n) })
					_ = n.Conn.Close() // nothing is left to fail
				})
			}
		}
		select {
		case <-time.After(l.Every):
		case <-l.again:
		case <-ctx.Done():
		}
	}
}

// WithHost returns the name with a host: one that has only a port stands for this machine, as when dialing.
func WithHost(name string) string {
	if strings.HasPrefix(name, ":") {
		return "localhost" + name
	}
	return name
}

// lookup returns the addresses of a name, with its port.
func (l *Lister) lookup(ctx context.Context, name string) ([]string, error) {
	host, port, err := net.SplitHostPort(WithHost(name))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := l.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i, ip := range ips {
		ips[i] = ip.Unmap()
	}
	if slices.ContainsFunc(ips, netip.Addr.Is4) {
		ips = slices.DeleteFunc(ips, netip.Addr.Is6)
	}
	addresses := make([]string, len(ips))
	for i, ip := range ips {
		addresses[i] = net.JoinHostPort(ip.String(), port)
	}
	return addresses, nil
}

// list notes the addresses of a name and returns the nodes that are new.
func (l *Lister) list(name string, addresses []string) (added []*Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked[name] = addresses
	for _, n := range l.nodes {
		n.listed = false
	}
	for name, addresses := range l.looked {
		for _, address := range addresses {
			n := l.nodes[address]
			if n == nil {
				conn, err := l.Dial(name, address)
				if err != nil {
					l.log.Error("cannot dial a node", "node", address, "error", err)
					continue
				}
				n = &Node{Name: address, Conn: conn, lister: l}
				l.nodes[address] = n
				added = append(added, n)
			}
			n.listed = true
		}
	}
	return added
}

// look makes the lister look up the names at once.
func (l *Lister) look() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// gone reports whether the node, which has no stream, is not listed any more, and removes it in that case.
func (n *Node) gone() bool {
	l := n.lister
	l.mu.Lock()
	defer l.mu.Unlock()
	if !n.listed {
		delete(l.nodes, n.Name)
	}
	return !n.listed
}

// KeepTrying calls serve again and again until the context ends or the node is gone; serve runs until something breaks. The
// pauses grow while serve fails at once. Of several failures in a row it reports the first.
func (n *Node) KeepTrying(ctx context.Context, serve func() error, failed func(error)) {
	pause := ShortPause
	for again := false; ctx.Err() == nil; again = true {
		started := time.Now()
		err := serve()
		switch {
		case ctx.Err() != nil:
			return
		case n.gone():
			n.lister.log.Info("node has left", "node", n.Name, "error", err)
			return
		case time.Since(started) > LongPause:
			pause, again = ShortPause, false
		}
		if !again {
			failed(err)
			n.lister.look()
		}
		if !Sleep(ctx, Jitter(pause)) {
			return
		}
		pause = min(2*pause, LongPause)
	}
}

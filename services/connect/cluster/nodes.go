// Package cluster is how a gateway reaches the other nodes. It knows nothing of sessions.
//
// A [Lister] finds the nodes of one kind behind their names and keeps a connection to each. [Nodes] are the message nodes:
// batches of sends go to the healthiest of them over one stream per node, its uplink; every other call goes to one node
// after another until one answers.
package cluster

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

// Nodes are the message nodes. All are alike; a call goes to one that answers.
type Nodes struct {
	log *slog.Logger

	mu     sync.Mutex
	list   []*uplink           // replaced, never changed
	parked map[*Batch]struct{} // no node had a stream when they came
}

// NewNodes has no node until Serve is called.
func NewNodes(log *slog.Logger) *Nodes {
	return &Nodes{log: log, parked: map[*Batch]struct{}{}}
}

// Serve has batches and calls go to the node until the context ends or it is gone.
func (n *Nodes) Serve(ctx context.Context, node *Node) {
	u := newUplink(node, n.unpark, n.log)
	n.change(func(list []*uplink) []*uplink { return append(list, u) })
	defer n.change(func(list []*uplink) []*uplink {
		return slices.DeleteFunc(list, func(other *uplink) bool { return other == u })
	})
	u.run(ctx)
}

// change replaces the list by what is made of a copy of it.
func (n *Nodes) change(list func([]*uplink) []*uplink) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = list(slices.Clone(n.list))
}

func (n *Nodes) all() []*uplink {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list
}

// Answer reports whether there is a node with a stream.
func (n *Nodes) Answer() bool {
	return slices.ContainsFunc(n.all(), func(u *uplink) bool { return u.health() > 0 })
}

// byHealth are the nodes, the healthiest first, equals in random order.
func (n *Nodes) byHealth() []*uplink {
	list := n.all()
	if len(list) == 1 {
		return list
	}
	type rated struct {
		*uplink
		health int
	}
	rating := make([]rated, len(list))
	for i, j := range rand.Perm(len(list)) {
		rating[i] = rated{list[j], list[j].health()}
	}
	slices.SortStableFunc(rating, func(a, b rated) int { return b.health - a.health })
	sorted := make([]*uplink, len(rating))
	for i, r := range rating {
		sorted[i] = r.uplink
	}
	return sorted
}

// Send hands the batch to the healthiest node. While there is none it waits, until its deadline: a node that is replaced
// is back in a moment.
func (n *Nodes) Send(b *Batch) {
	if n.add(b) {
		return
	}
	n.mu.Lock()
	n.parked[b] = struct{}{}
	b.timer = time.AfterFunc(time.Until(b.Deadline), func() {
		if n.take(b) {
			b.Done(nil, ErrUnsent)
		}
	})
	n.mu.Unlock()
	n.unpark() // a node may have come up meanwhile
}

func (n *Nodes) add(b *Batch) bool {
	return slices.ContainsFunc(n.byHealth(), func(u *uplink) bool { return u.add(b) })
}

// take reports whether the batch was still parked; it is the caller's from then on.
func (n *Nodes) take(b *Batch) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, parked := n.parked[b]
	delete(n.parked, b)
	return parked
}

// unpark hands over what waits, if there is a node now.
func (n *Nodes) unpark() {
	if !n.Answer() {
		return
	}
	n.mu.Lock()
	waiting := slices.Collect(maps.Keys(n.parked))
	clear(n.parked)
	n.mu.Unlock()
	for _, b := range waiting {
		b.timer.Stop()
		n.Send(b)
	}
}

// Call makes a call that is safe to repeat to one node after the other, until one answers or the context ends.
func (n *Nodes) Call(ctx context.Context, call func(context.Context, millracev1.MessageServiceClient) error) error {
	err := status.Error(codes.Unavailable, "no message node")
	for _, u := range n.byHealth() {
		err = call(ctx, u.client)
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded:
		case codes.Canceled: // or the node has left, and its connection with it
		default:
			return err
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return err
}

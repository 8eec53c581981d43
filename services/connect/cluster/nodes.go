// Package cluster lets a gateway reach the other nodes. It knows nothing of sessions.
//
// A [Lister] finds the nodes of one kind by their names and keeps a connection to each. [Nodes] are the message nodes: send
// batches go to the healthiest of them over one stream per node, its uplink. Every other call goes to one node after another
// until one responds.
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

// Nodes are the message nodes. They are all alike, and a call goes to one that responds.
type Nodes struct {
	log *slog.Logger

	mu     sync.Mutex
	list   []*uplink               // replaced as a whole, never modified
	parked map[*SendBatch]struct{} // send batches that came while no node had a stream
}

// NewNodes returns a Nodes without any node; Serve adds one.
func NewNodes(log *slog.Logger) *Nodes {
	return &Nodes{log: log, parked: map[*SendBatch]struct{}{}}
}

// Serve adds the node, so that send batches and calls go to it, until the context ends or the node is gone.
func (n *Nodes) Serve(ctx context.Context, node *Node) {
	u := newUplink(node, n.unpark, n.log)
	n.change(func(list []*uplink) []*uplink { return append(list, u) })
	defer n.change(func(list []*uplink) []*uplink {
		return slices.DeleteFunc(list, func(other *uplink) bool { return other == u })
	})
	u.run(ctx)
}

// change replaces the list by the result of list, which gets a copy.
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

// Answer reports whether any node has a stream.
func (n *Nodes) Answer() bool {
	return slices.ContainsFunc(n.all(), func(u *uplink) bool { return u.health() > 0 })
}

// byHealth returns the nodes with the healthiest first; equally healthy ones are in random order.
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

// Send passes the batch to the healthiest node. While no node has a stream the batch waits until its deadline, because a node
// that is being replaced is back in a moment.
func (n *Nodes) Send(b *SendBatch) {
	if n.add(b) {
		return
	}
	n.mu.Lock()
	n.parked[b] = struct{}{}
	b.timer = time.AfterFunc(time.Until(b.Deadline), func() {
		if n.take(b) {
			b.done(nil, ErrUnsent)
		}
	})
	n.mu.Unlock()
	n.unpark() // a node may have come up meanwhile
}

func (n *Nodes) add(b *SendBatch) bool {
	return slices.ContainsFunc(n.byHealth(), func(u *uplink) bool { return u.add(b) })
}

// take removes the batch from the parked ones and reports whether it was among them.
func (n *Nodes) take(b *SendBatch) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, parked := n.parked[b]
	delete(n.parked, b)
	return parked
}

// unpark passes the parked batches on, if there is a node now.
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

// Call makes a call, which must be safe to repeat, to one node after the other until one responds or the context ends.
func (n *Nodes) Call(ctx context.Context, call func(context.Context, millracev1.MessageServiceClient) error) error {
	err := status.Error(codes.Unavailable, "no message node")
	for _, u := range n.byHealth() {
		err = call(ctx, u.client)
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded:
		case codes.Canceled: // or the node has left and closed its connection
		default:
			return err
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return err
}

package connect

import (
	"context"
	"errors"
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

// nodes are the message nodes. All are alike; a call goes to one that answers.
type nodes struct {
	log *slog.Logger

	mu     sync.Mutex
	list   []*uplink           // replaced, never changed
	parked map[*batch]struct{} // no node had a stream when they came
}

func newNodes(log *slog.Logger) *nodes {
	return &nodes{log: log, parked: map[*batch]struct{}{}}
}

// serve has batches and calls go to the node until the context ends or it is gone.
func (n *nodes) serve(ctx context.Context, node *node) {
	u := newUplink(node, n.unpark, n.log)
	n.mu.Lock()
	n.list = append(slices.Clone(n.list), u)
	n.mu.Unlock()
	u.run(ctx)
	n.mu.Lock()
	n.list = slices.DeleteFunc(slices.Clone(n.list), func(other *uplink) bool { return other == u })
	n.mu.Unlock()
}

func (n *nodes) all() []*uplink {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list
}

// answer reports whether there is a node with a stream.
func (n *nodes) answer() bool {
	return slices.ContainsFunc(n.all(), func(u *uplink) bool { return u.health() > 0 })
}

// byHealth are the nodes, the healthiest first, equals in random order.
func (n *nodes) byHealth() []*uplink {
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

// send hands the batch to the healthiest node. While there is none it waits, until its deadline: a node that is replaced
// is back in a moment.
func (n *nodes) send(b *batch) {
	if n.add(b) {
		return
	}
	n.mu.Lock()
	n.parked[b] = struct{}{}
	b.timer = time.AfterFunc(time.Until(b.deadline), func() {
		if n.take(b) {
			b.done(nil, errUnsent)
		}
	})
	n.mu.Unlock()
	n.unpark() // a node may have come up meanwhile
}

func (n *nodes) add(b *batch) bool {
	return slices.ContainsFunc(n.byHealth(), func(u *uplink) bool { return u.add(b) })
}

// take reports whether the batch was still parked; it is the caller's from then on.
func (n *nodes) take(b *batch) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, parked := n.parked[b]
	delete(n.parked, b)
	return parked
}

// unpark hands over what waits, if there is a node now.
func (n *nodes) unpark() {
	if !n.answer() {
		return
	}
	n.mu.Lock()
	waiting := slices.Collect(maps.Keys(n.parked))
	clear(n.parked)
	n.mu.Unlock()
	for _, b := range waiting {
		b.timer.Stop()
		n.send(b)
	}
}

// call makes a call that is safe to repeat to one node after the other, until one answers or the context ends.
func (n *nodes) call(ctx context.Context, call func(context.Context, millracev1.MessageServiceClient) error) error {
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

// Error lets a refusal pass where errors do.
func (r *refusal) Error() string { return r.Code + ": " + r.Message }

// asRefusal is what the client is told of the error.
func asRefusal(err error) *refusal {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused
	}
	return refusalOf(err)
}

// sleep reports false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

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
	list []*uplink

	mu     sync.Mutex
	parked map[*batch]struct{} // no node had a stream when they came
}

func newNodes(list []Node, log *slog.Logger) *nodes {
	n := &nodes{parked: map[*batch]struct{}{}}
	for _, node := range list {
		n.list = append(n.list, newUplink(node.Name, millracev1.NewMessageServiceClient(node.Conn), n.unpark, log))
	}
	return n
}

// run keeps the uplinks until the context ends.
func (n *nodes) run(ctx context.Context, wg *sync.WaitGroup) {
	for _, u := range n.list {
		wg.Go(func() { u.run(ctx) })
	}
}

// byHealth are the nodes, the healthiest first, equals in random order.
func (n *nodes) byHealth() []*uplink {
	if len(n.list) == 1 {
		return n.list
	}
	type rated struct {
		*uplink
		health int
	}
	rating := make([]rated, len(n.list))
	for i, j := range rand.Perm(len(n.list)) {
		rating[i] = rated{n.list[j], n.list[j].health()}
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
	if !slices.ContainsFunc(n.list, func(u *uplink) bool { return u.health() > 0 }) {
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
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded || ctx.Err() != nil {
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

// keepTrying calls serve, which runs until something breaks, again and again until the context ends, with growing pauses
// while it fails at once. Of several failures in a row it reports the first.
func keepTrying(ctx context.Context, serve func() error, failed func(error)) {
	pause := shortPause
	for again := false; ctx.Err() == nil; again = true {
		started := time.Now()
		err := serve()
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > longPause {
			pause, again = shortPause, false
		}
		if !again {
			failed(err)
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, longPause)
	}
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

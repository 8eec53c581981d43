package connect_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

// pushNode is a PushService over the world. It handles every record of its partitions as soon as it is written.
type pushNode struct {
	millracev1.UnimplementedPushServiceServer
	w *world
	// fault may be nil. Otherwise it decides what is sent instead of a span, in order.
	fault func(*attachment, *millracev1.Span) []*millracev1.Span

	// The world's lock guards these.
	holds    map[int32]bool
	handled  map[int32]int64
	attached map[*attachment]struct{}
	mute     bool // accepts no interest
	answers  []*millracev1.SessionsAnswer
	acked    uint64 // the number of the last broadcast that a gateway has acknowledged
}

type attachment struct {
	out      chan *millracev1.AttachResponse
	broken   chan struct{}
	number   uint64
	interest map[string]bool
	sent     map[int32]int64
	held     []*millracev1.AttachRequest // what came while mute
}

func (w *world) newPushNode(holds ...int32) *pushNode {
	n := &pushNode{w: w, holds: map[int32]bool{}, handled: map[int32]int64{}, attached: map[*attachment]struct{}{}}
	for _, p := range holds {
		n.holds[p] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, n)
	return n
}

// handle handles the partition's new records. The world's lock is held, also in the methods below.
func (n *pushNode) handle(p int32) {
	if !n.holds[p] {
		return
	}
	for _, d := range n.w.logs[p][n.handled[p]:] {
		n.handled[p] = d.GetSeq()
		for a := range n.attached {
			if slices.ContainsFunc(d.GetChannels(), func(c string) bool { return a.interest[c] }) {
				n.cover(a, p, d)
			}
		}
	}
}

// cover sends a span up to what was handled.
func (n *pushNode) cover(a *attachment, p int32, deliveries ...*millracev1.Delivery) {
	span := &millracev1.Span{
		Partition: p, After: a.sent[p], Through: n.handled[p], Deliveries: deliveries, Interest: a.number,
	}
	a.sent[p] = n.handled[p]
	spans := []*millracev1.Span{span}
	if n.fault != nil {
		spans = n.fault(a, span)
	}
	for _, s := range spans {
		a.out <- &millracev1.AttachResponse{Spans: []*millracev1.Span{s}}
	}
}

// beat sends an empty span for every partition that moved.
func (n *pushNode) beat() {
	for a := range n.attached {
		for p := range n.holds {
			if a.sent[p] < n.handled[p] {
				n.cover(a, p)
			}
		}
	}
}

// take begins to read a partition from the position on.
func (n *pushNode) take(p int32, after int64) {
	for _, other := range n.w.nodes {
		delete(other.holds, p)
	}
	n.holds[p], n.handled[p] = true, after
	for a := range n.attached {
		a.sent[p] = after
		n.cover(a, p)
	}
	n.handle(p)
}

func (n *pushNode) Attach(stream millracev1.PushService_AttachServer) error {
	if hello, err := stream.Recv(); err != nil || hello.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "want hello first")
	}
	a := &attachment{
		out: make(chan *millracev1.AttachResponse, 1<<16), broken: make(chan struct{}), interest: map[string]bool{}, sent: map[int32]int64{},
	}
	n.w.set(func(*world) {
		n.attached[a] = struct{}{}
		for p := range n.holds {
			a.sent[p] = n.handled[p]
			n.cover(a, p)
		}
	})
	defer n.w.set(func(*world) { delete(n.attached, a) })
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			n.w.set(func(*world) { n.request(a, request) })
		}
	}()
	for {
		select {
		case response := <-a.out:
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-a.broken:
			return status.Error(codes.ResourceExhausted, "broken")
		case <-gone:
			return nil
		}
	}
}

func (n *pushNode) request(a *attachment, r *millracev1.AttachRequest) {
	if _, ok := n.attached[a]; !ok {
		return // its stream is broken
	}
	switch kind := r.GetKind().(type) {
	case *millracev1.AttachRequest_Sessions:
		n.answers = append(n.answers, kind.Sessions)
	case *millracev1.AttachRequest_Signal:
		for a := range n.attached {
			if a.interest[kind.Signal.GetChannel()] {
				a.out <- &millracev1.AttachResponse{Signals: []*millracev1.Signal{kind.Signal}}
			}
		}
	case *millracev1.AttachRequest_BroadcastAck:
		n.acked = max(n.acked, kind.BroadcastAck)
	case *millracev1.AttachRequest_Interest:
		if n.mute {
			a.held = append(a.held, r)
			return
		}
		if kind.Interest.GetNumber() != a.number+1 {
			panic(fmt.Sprintf("interest %d after %d", kind.Interest.GetNumber(), a.number))
		}
		handled := map[int32]int64{}
		for p := range n.holds {
			handled[p] = n.handled[p]
			if a.sent[p] < n.handled[p] {
				n.cover(a, p) // with the number of the interest that it was made with
			}
		}
		a.number++
		for _, c := range kind.Interest.GetAdd() {
			a.interest[c] = true
		}
		for _, c := range kind.Interest.GetRemove() {
			delete(a.interest, c)
		}
		a.out <- &millracev1.AttachResponse{Ack: &millracev1.InterestAck{
			Number: a.number, Handled: handled, Now: time.Now().UnixMicro(),
		}}
	}
}

// broadcast sends a broadcast with the number to all gateways.
func (n *pushNode) broadcast(b *millracev1.Broadcast) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for a := range n.attached {
		a.out <- &millracev1.AttachResponse{Broadcasts: []*millracev1.Broadcast{b}}
	}
}

// acknowledged waits until a gateway has acknowledged broadcasts up to the number.
func (n *pushNode) acknowledged(t testing.TB, number uint64) {
	t.Helper()
	assert.Eventually(t, func() bool {
		n.w.mu.Lock()
		defer n.w.mu.Unlock()
		return n.acked == number
	}, patience, time.Millisecond)
}

// unmute accepts the interest that came meanwhile.
func (n *pushNode) unmute() {
	n.mute = false
	for a := range n.attached {
		held := a.held
		a.held = nil
		for _, r := range held {
			n.request(a, r)
		}
	}
}

// interested reports whether a gateway has registered the channel with the node.
func (n *pushNode) interested(channel string) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for a := range n.attached {
		if a.interest[channel] {
			return true
		}
	}
	return false
}

func (n *pushNode) breakStreams() {
	for a := range n.attached {
		close(a.broken)
		delete(n.attached, a)
	}
}

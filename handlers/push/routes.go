package push

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// routes knows which gateway is interested in which channels, and how far each partition has come. Spans are true because of
// three rules:
//
//   - The position of a partition moves, and the deliveries at it are queued, in one step that no change of interest can
//     divide.
//   - Before the interest of a gateway changes, spans with the number of the old interest cover everything so far.
//   - A gateway's stream knows for every partition where its last span ended, and the next span begins there.
//
// So the `after` of a span equals the `through` of the span before it on the same stream, except that the first span after an
// assignment begins at the position of the assignment.
type routes struct {
	mu         sync.Mutex
	partitions map[int32]int64 // those that are read here, with the position up to which everything is done with
	gateways   map[*gateway]struct{}
	channels   map[string][]*gateway
	presence   presence
	round      uint64
	questions  map[uint64]*question // by number, those that wait for answers
	asked      uint64               // how many questions were asked
}

// gateway is an attached gateway. The mutex of the routes guards everything but the queue.
type gateway struct {
	name     string
	queue    *queue
	channels map[string]struct{}
	interest uint64
	online   map[int64]struct{} // users with a connection to the gateway
	watched  map[int64]struct{} // users whose presence the gateway watches
	sent     map[int32]int64    // by partition, where the last span ended
	round    uint64             // number of the last delivery that was queued for it
	gone     bool
}

func newGateway(q *queue) *gateway {
	return &gateway{
		queue: q, channels: make(map[string]struct{}), sent: make(map[int32]int64),
		online: make(map[int64]struct{}), watched: make(map[int64]struct{}),
	}
}

func newRoutes() routes {
	return routes{
		partitions: make(map[int32]int64), gateways: make(map[*gateway]struct{}), channels: make(map[string][]*gateway),
		presence: newPresence(), questions: make(map[uint64]*question),
	}
}

// assign adds a partition. Every gateway is told at once where it begins, so that the gateway notices what it lacks before
// that.
func (t *routes) assign(after events.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions[after.Partition] = after.Seq
	if t.presence.moves != nil {
		t.presence.moves.taken[after.Partition] = time.Now()
	}
	for g := range t.gateways {
		g.sent[after.Partition] = after.Seq
		g.span(after, nil, 0)
	}
}

func (t *routes) release(partition int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.partitions, partition)
	if t.presence.moves != nil {
		delete(t.presence.moves.taken, partition)
	}
	for g := range t.gateways {
		delete(g.sent, partition)
	}
}

// settle moves the partition on, past records that were handled, skipped or poisoned.
func (t *routes) settle(pos events.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if through, held := t.partitions[pos.Partition]; held {
		t.partitions[pos.Partition] = max(through, pos.Seq)
	}
}

// wanted reports whether a gateway wants the record, so that it must be delivered. If none does, the record is done with
// here.
func (t *routes) wanted(pos events.Position, channels []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	through, held := t.partitions[pos.Partition]
	if held && pos.Seq <= through {
		// The record comes again. Gateways that were attached the first time have it in their queues, and those that attached
		// since were told that it lies before their first span.
		return false
	}
	for _, c := range channels {
		if len(t.channels[c]) > 0 {
			return true
		}
	}
	if held {
		t.partitions[pos.Partition] = pos.Seq
	}
	return false
}

// deliver queues the delivery once for each gateway that wants it.
func (t *routes) deliver(pos events.Position, d *millracev1.Delivery) {
	size := proto.Size(d)
	t.mu.Lock()
	defer t.mu.Unlock()
	through, held := t.partitions[pos.Partition]
	if held && pos.Seq <= through {
		return // the partition was assigned again from a position after the record
	}
	t.round++
	for _, c := range d.GetChannels() {
		for _, g := range t.channels[c] {
			if g.round == t.round {
				continue
			}
			g.round = t.round
			if !held {
				// The partition was released while the record was being handled: the span covers this one record only.
				g.sent[pos.Partition] = pos.Seq - 1
			}
			g.span(pos, d, size)
			if !held {
				delete(g.sent, pos.Partition)
			}
		}
	}
	if held {
		t.partitions[pos.Partition] = pos.Seq
	}
}

// cover sends all gateways a span for each partition that moved.
func (t *routes) cover() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for g := range t.gateways {
		t.coverGateway(g)
	}
}

func (t *routes) coverGateway(g *gateway) {
	for partition, through := range t.partitions {
		if through > g.sent[partition] {
			g.span(events.Position{Partition: partition, Seq: through}, nil, 0)
		}
	}
}

// attach adds a gateway and tells it where the partitions are.
func (t *routes) attach(g *gateway) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.gone {
		return
	}
	t.gateways[g] = struct{}{}
	for partition, through := range t.partitions {
		g.sent[partition] = through
		g.span(events.Position{Partition: partition, Seq: through}, nil, 0)
	}
}

// detach removes a gateway and its interest.
func (t *routes) detach(g *gateway) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g.gone = true
	delete(t.gateways, g)
	for c := range g.channels {
		t.unsubscribe(g, c)
	}
	t.presence.forget(g)
	for _, q := range t.questions {
		q.leave(g)
	}
}

// change applies a change of interest and acknowledges it.
func (t *routes) change(g *gateway, in *millracev1.Interest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.gone {
		return nil
	}
	if in.GetNumber() != g.interest+1 {
		return status.Errorf(codes.InvalidArgument, "interest %d after %d", in.GetNumber(), g.interest)
	}
	t.coverGateway(g)
	for _, c := range in.GetRemove() {
		if _, ok := g.channels[c]; ok {
			delete(g.channels, c)
			t.unsubscribe(g, c)
		}
	}
	for _, c := range in.GetAdd() {
		if _, ok := g.channels[c]; !ok {
			g.channels[c] = struct{}{}
			t.channels[c] = append(t.channels[c], g)
		}
	}
	for _, u := range in.GetUsers() {
		t.presence.change(g, u)
	}
	g.interest = in.GetNumber()
	ack := &millracev1.InterestAck{
		Number: g.interest, Handled: make(map[int32]int64, len(t.partitions)), Now: time.Now().UnixMicro(),
	}
	for partition, through := range t.partitions {
		ack.Handled[partition] = through
	}
	g.queue.ack(ack)
	return nil
}

func (t *routes) unsubscribe(g *gateway, channel string) {
	rest := slices.DeleteFunc(t.channels[channel], func(other *gateway) bool { return other == g })
	if len(rest) == 0 {
		delete(t.channels, channel)
	} else {
		t.channels[channel] = rest
	}
}

// signal relays the signal to the gateways that are interested in its channel and whose queues have room.
func (t *routes) signal(sig *millracev1.Signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.channels[sig.GetChannel()] {
		g.queue.signal(sig)
	}
}

// span queues a span that begins where the last one ended, with the delivery if there is one. size is the delivery's size.
func (g *gateway) span(through events.Position, d *millracev1.Delivery, size int) {
	after := g.sent[through.Partition]
	g.sent[through.Partition] = through.Seq
	g.queue.span(span{through.Partition, after, through.Seq, g.interest, d}, size)
}

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

// routes is who wants what, and how far each partition has come. What makes spans true:
//
//   - a partition's position moves, and the deliveries at it are queued, in one step that no change of interest divides;
//   - before a gateway's interest changes, what lies behind is covered by spans with the number of the old one;
//   - a stream knows for every partition held where its last span ended, and the next begins there.
//
// So a span's `after` is the `through` of the one before on its stream, except after an assignment, where it is the assignment's.
type routes struct {
	mu         sync.Mutex
	partitions map[int32]int64 // held here: position up to which all is done with
	streams    map[*stream]struct{}
	channels   map[string][]*stream
	presence   presence
	round      uint64
}

// stream is an attached gateway. All but the queue is guarded by the mutex of the routes.
type stream struct {
	queue    *queue
	channels map[string]struct{}
	interest uint64
	online   map[int64]struct{} // users with a connection there
	watched  map[int64]struct{} // users whose presence it wants to know
	sent     map[int32]int64    // where the last span of every partition held ended
	round    uint64             // the last delivery it got
	gone     bool
}

func newStream(q *queue) *stream {
	return &stream{
		queue: q, channels: make(map[string]struct{}), sent: make(map[int32]int64),
		online: make(map[int64]struct{}), watched: make(map[int64]struct{}),
	}
}

func newRoutes() routes {
	return routes{
		partitions: make(map[int32]int64), streams: make(map[*stream]struct{}), channels: make(map[string][]*stream),
		presence: newPresence(),
	}
}

// assign begins a partition. Every gateway learns at once where, so that it sees what it lacks before that.
func (t *routes) assign(after events.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions[after.Partition] = after.Seq
	for s := range t.streams {
		s.sent[after.Partition] = after.Seq
		s.span(after, nil, 0)
	}
}

func (t *routes) release(partition int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.partitions, partition)
	for s := range t.streams {
		delete(s.sent, partition)
	}
}

// settle covers records that were handled, and those that were skipped or poisoned.
func (t *routes) settle(pos events.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if through, held := t.partitions[pos.Partition]; held {
		t.partitions[pos.Partition] = max(through, pos.Seq)
	}
}

// wanted reports whether the record must be delivered. If nobody wants it, it is done with here and now.
func (t *routes) wanted(pos events.Position, channels []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	through, held := t.partitions[pos.Partition]
	if held && pos.Seq <= through {
		// It comes again. Who was attached has it in its queue, who attached since was told that it lies behind.
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

// deliver queues the delivery for whoever wants it, once each.
func (t *routes) deliver(pos events.Position, d *millracev1.Delivery) {
	size := proto.Size(d)
	t.mu.Lock()
	defer t.mu.Unlock()
	through, held := t.partitions[pos.Partition]
	if held && pos.Seq <= through {
		return // the partition was assigned anew from behind the record
	}
	t.round++
	for _, c := range d.GetChannels() {
		for _, s := range t.channels[c] {
			if s.round == t.round {
				continue
			}
			s.round = t.round
			if !held {
				// Released while it was being handled: the span vouches for this one record.
				s.sent[pos.Partition] = pos.Seq - 1
			}
			s.span(pos, d, size)
			if !held {
				delete(s.sent, pos.Partition)
			}
		}
	}
	if held {
		t.partitions[pos.Partition] = pos.Seq
	}
}

// cover tells all gateways of the partitions that moved.
func (t *routes) cover() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.streams {
		t.coverStream(s)
	}
}

func (t *routes) coverStream(s *stream) {
	for partition, through := range t.partitions {
		if through > s.sent[partition] {
			s.span(events.Position{Partition: partition, Seq: through}, nil, 0)
		}
	}
}

// attach adds a gateway, which is told where the partitions are.
func (t *routes) attach(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.gone {
		return
	}
	t.streams[s] = struct{}{}
	for partition, through := range t.partitions {
		s.sent[partition] = through
		s.span(events.Position{Partition: partition, Seq: through}, nil, 0)
	}
}

// detach forgets a gateway and its interest.
func (t *routes) detach(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.gone = true
	delete(t.streams, s)
	for c := range s.channels {
		t.unsubscribe(s, c)
	}
	t.presence.forget(s)
}

// change applies a change of interest and acknowledges it.
func (t *routes) change(s *stream, in *millracev1.Interest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.gone {
		return nil
	}
	if in.GetNumber() != s.interest+1 {
		return status.Errorf(codes.InvalidArgument, "interest %d after %d", in.GetNumber(), s.interest)
	}
	t.coverStream(s)
	for _, c := range in.GetRemove() {
		if _, ok := s.channels[c]; ok {
			delete(s.channels, c)
			t.unsubscribe(s, c)
		}
	}
	for _, c := range in.GetAdd() {
		if _, ok := s.channels[c]; !ok {
			s.channels[c] = struct{}{}
			t.channels[c] = append(t.channels[c], s)
		}
	}
	for _, u := range in.GetUsers() {
		t.presence.change(s, u)
	}
	s.interest = in.GetNumber()
	ack := &millracev1.InterestAck{
		Number: s.interest, Handled: make(map[int32]int64, len(t.partitions)), Now: time.Now().UnixMicro(),
	}
	for partition, through := range t.partitions {
		ack.Handled[partition] = through
	}
	s.queue.ack(ack)
	return nil
}

func (t *routes) unsubscribe(s *stream, channel string) {
	rest := slices.DeleteFunc(t.channels[channel], func(other *stream) bool { return other == s })
	if len(rest) == 0 {
		delete(t.channels, channel)
	} else {
		t.channels[channel] = rest
	}
}

// signal relays to whoever is interested in the channel and keeps up.
func (t *routes) signal(sig *millracev1.Signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.channels[sig.GetChannel()] {
		s.queue.signal(sig)
	}
}

// span queues a span from where the last one ended, with the delivery if there is one, of the given size.
func (s *stream) span(through events.Position, d *millracev1.Delivery, size int) {
	span := &millracev1.Span{
		Partition: through.Partition, After: s.sent[through.Partition], Through: through.Seq, Interest: s.interest,
	}
	if d != nil {
		span.Deliveries = []*millracev1.Delivery{d}
	}
	s.sent[through.Partition] = through.Seq
	s.queue.span(span, size)
}

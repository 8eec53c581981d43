package push

import (
	"runtime"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// spanBytes is about the size of a span without its deliveries.
	spanBytes = 32
	// lookBack is among how many spans one of the same partition is looked for.
	lookBack = 16
	// framePresences is how many users a frame tells of at most, which takes about 50 KB.
	framePresences = 4096
)

// queue holds what waits for one gateway, already arranged in frames. Adding something never blocks: when the queue is full
// it ends. Presence does not fill the queue, because it keeps only the latest state of each user that the gateway watches and
// adds that to whichever frame is taken next.
type queue struct {
	opts Options

	mu     sync.Mutex
	frames []*frame
	online map[int64]bool // by user, the state that the gateway has to be told
	items  int
	bytes  int
	over   bool
	err    error

	wake  chan struct{} // holds one token while something waits
	ended chan struct{}
}

type frame struct {
	response millracev1.AttachResponse
	items    int
	bytes    int
}

func newQueue(opts Options) *queue {
	return &queue{opts: opts, online: map[int64]bool{}, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// span is a span with at most one delivery.
type span struct {
	partition      int32
	after, through int64
	interest       uint64
	delivery       *millracev1.Delivery // nil: none
}

// span adds a span, whose delivery has the size.
func (q *queue) span(s span, size int) {
	q.put(size+spanBytes, 1, func(r *millracev1.AttachResponse) {
		into := extended(r.GetSpans(), s)
		if into == nil {
			into = &millracev1.Span{Partition: s.partition, After: s.after, Interest: s.interest}
			r.Spans = append(r.Spans, into)
		}
		into.Through = s.through
		if s.delivery != nil {
			into.Deliveries = append(into.Deliveries, s.delivery)
		}
	})
}

// extended returns the last span of the same partition if the new one goes on where it ends, or nil.
func extended(spans []*millracev1.Span, s span) *millracev1.Span {
	for _, last := range slices.Backward(spans[max(0, len(spans)-lookBack):]) {
		if last.GetPartition() != s.partition {
			continue
		}
		if last.GetThrough() != s.after || last.GetInterest() != s.interest {
			return nil
		}
		return last
	}
	return nil
}

// ack adds an acknowledgement as the last item of its frame. A gateway reads the spans of a frame, and all presence up to
// then, before the acknowledgement.
func (q *queue) ack(a *millracev1.InterestAck) {
	q.put(proto.Size(a), 1, func(r *millracev1.AttachResponse) { r.Ack = a })
}

// presence makes the queue tell the gateway whether the user is online. It is never dropped, because the gateway goes by the
// last state that it was told.
func (q *queue) presence(user int64, online bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.over {
		q.online[user] = online
		q.poke()
	}
}

// unwatch stops telling the gateway about the user.
func (q *queue) unwatch(user int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.online, user)
}

// signal adds a signal, or drops it when the queue is more than half full.
func (q *queue) signal(s *millracev1.Signal) {
	q.put(proto.Size(s), 2, func(r *millracev1.AttachResponse) { r.Signals = append(r.Signals, s) })
}

// question adds a question, or drops it as signal does.
func (q *queue) question(asked *millracev1.SessionsQuestion) {
	q.put(proto.Size(asked), 2, func(r *millracev1.AttachResponse) { r.Questions = append(r.Questions, asked) })
}

func (q *queue) broadcast(b *millracev1.Broadcast, size int) {
	q.put(size, 1, func(r *millracev1.AttachResponse) { r.Broadcasts = append(r.Broadcasts, b) })
}

// put adds an item to the last frame or to a new one. The item may use 1/part of the queue. An item that may use all of it
// (part is 1) cannot be dropped, so the queue ends if there is no room for it.
func (q *queue) put(size, part int, add func(*millracev1.AttachResponse)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return
	}
	if q.items >= q.opts.QueueItems/part || q.bytes+size > q.opts.QueueBytes/part {
		if part == 1 {
			q.endLocked(status.Errorf(codes.ResourceExhausted, "%d items, %d bytes were waiting", q.items, q.bytes))
		}
		return
	}
	var last *frame
	if n := len(q.frames); n > 0 {
		last = q.frames[n-1]
	}
	if last == nil || last.response.Ack != nil || last.bytes+size > q.opts.FrameBytes {
		last = &frame{}
		q.frames = append(q.frames, last)
	}
	add(&last.response)
	last.items++
	last.bytes += size
	q.items++
	q.bytes += size
	q.poke()
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for a frame and removes it from the queue. It returns nil once the queue has ended.
func (q *queue) next() *millracev1.AttachResponse {
	for {
		select {
		case <-q.ended:
			return nil
		case <-q.wake:
		}
		// Let goroutines that are about to add something do so first.
		runtime.Gosched()
		if f := q.take(); f != nil {
			return &f.response
		}
	}
}

func (q *queue) take() *frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 && len(q.online) == 0 {
		return nil
	}
	f := &frame{}
	presenceFirst := len(q.online) > framePresences && len(q.frames) > 0 && q.frames[0].response.Ack != nil
	if len(q.frames) > 0 && !presenceFirst {
		f = q.frames[0]
		q.frames[0] = nil
		q.frames = q.frames[1:]
		q.items -= f.items
		q.bytes -= f.bytes
	}
	for user, online := range q.online {
		if len(f.response.Presences) == framePresences {
			break
		}
		f.response.Presences = append(f.response.Presences, &millracev1.Presence{User: user, Online: online})
		delete(q.online, user)
	}
	if len(q.frames) > 0 || len(q.online) > 0 {
		q.poke()
	}
	return f
}

// end closes the queue and drops what waits. The error of the first call is kept; nil means that the gateway left.
func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.endLocked(err)
}

func (q *queue) endLocked(err error) {
	if q.over {
		return
	}
	q.over, q.err, q.frames, q.online = true, err, nil, nil
	close(q.ended)
}

// cause returns why the queue ended.
func (q *queue) cause() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

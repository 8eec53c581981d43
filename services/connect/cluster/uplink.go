package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"millrace/infra/panics"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	frameBytes = 1 << 20 // the content of one gRPC frame at most, far below gRPC's limit of 4 MiB
	openFrames = 2
	// framePatience is how long an unanswered frame holds back the next ones. A partition that stalls must not stall the
	// batches of others.
	framePatience = 10 * time.Millisecond
	// expiryGrain is how much later than at its deadline a batch may be given up, so that one look finds many.
	expiryGrain = 20 * time.Millisecond
)

var (
	errUnknown = errors.New("outcome unknown")
	// ErrUnsent says that no node has got the batch.
	ErrUnsent  = errors.New("not sent")
	errLeaving = errors.New("the node is going away")
)

// SendBatch is a run of changes of one lane, which message nodes get and answer as a whole (the SendBatch of the gRPC API).
type SendBatch struct {
	Changes []*millracev1.Change
	// Bytes is the size of the changes' content.
	Bytes int
	// Stored says that the batch is answered only once it is stored, so others do not wait for its answer.
	Stored   bool
	Deadline time.Time
	// Done is called once: with one result for each change, or with ErrUnsent or errUnknown.
	Done func([]*millracev1.SendResult, error)
	// Spans holds, by change, the spans in which the changes are asked for: nil for those that belong to no trace. It is nil
	// itself if none does.
	Spans []trace.Span

	calls []trace.Span // by change, once a node has the batch, the spans in which it makes them
	wire  millracev1.SendBatch
	timer *time.Timer // gives it up while it is parked
	frame *sentFrame  // nil until sent
}

type sentFrame struct {
	at       time.Time
	answered bool // it is answered, or nothing in it is answered soon
}

// toSend returns the batch as it is sent. Nodes of earlier versions know no changes, so a batch of sends alone is sent as
// messages.
func (b *SendBatch) toSend(id uint64) *millracev1.SendBatch {
	b.wire.Id = id
	messages := make([]*millracev1.SendWSMessageRequest, len(b.Changes))
	for i, c := range b.Changes {
		if messages[i] = c.GetSend(); messages[i] == nil {
			b.wire.Changes = b.Changes
			return &b.wire
		}
	}
	b.wire.Messages = messages
	return &b.wire
}

// uplink carries the batches of all lanes to one message node over one stream. It collects what waits into one frame. At most
// two frames are unanswered at a time, so that under load frames become larger and not more. No timer delays a batch.
type uplink struct {
	node   *Node
	client millracev1.MessageServiceClient
	log    *slog.Logger
	wake   chan struct{}
	ready  func() // called when a stream opens

	mu         sync.Mutex
	up         bool
	leaving    bool // the node accepts no more on this stream, but answers what it has
	suspect    bool // a batch has run out of time and nothing was answered since
	queue      []uint64
	unanswered map[uint64]*SendBatch
	frames     []*sentFrame
	lastID     uint64
	expiry     *time.Timer // for the earliest deadline of those unanswered, or an earlier time
	expires    time.Time   // when that is; zero: it does not run
}

func newUplink(node *Node, ready func(), log *slog.Logger) *uplink {
	u := &uplink{
		node: node, client: millracev1.NewMessageServiceClient(node.Conn), log: log, wake: make(chan struct{}, 1), ready: ready,
		unanswered: map[uint64]*SendBatch{},
	}
	u.expiry = time.AfterFunc(time.Hour, u.expire)
	u.expiry.Stop() // until there is something to expire
	return u
}

// health returns 2 if the node is expected to answer, 1 if that is doubtful, and 0 if there is no stream.
func (u *uplink) health() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case !u.up:
		return 0
	case u.suspect:
		return 1
	}
	return 2
}

// add takes the batch and reports true, unless there is no stream.
func (u *uplink) add(b *SendBatch) bool {
	b.frame = nil
	u.mu.Lock()
	if !u.up {
		u.mu.Unlock()
		return false
	}
	u.lastID++
	id := u.lastID
	u.unanswered[id] = b
	u.queue = append(u.queue, id)
	b.startCalls(u.node.Name)
	if u.expires.IsZero() || b.Deadline.Before(u.expires) {
		u.expires = b.Deadline
		u.expiry.Reset(time.Until(b.Deadline))
	}
	u.mu.Unlock()
	u.poke()
	return true
}

func (u *uplink) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// expire gives up the batches whose deadlines have passed.
func (u *uplink) expire() {
	for _, b := range u.takeExpired() {
		b.done(nil, errUnknown)
	}
}

// takeExpired removes and returns those batches, and sets the timer for the others.
func (u *uplink) takeExpired() (expired []*SendBatch) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.expires = time.Time{}
	for id, b := range u.unanswered {
		switch {
		case now.Before(b.Deadline):
			if u.expires.IsZero() || b.Deadline.Before(u.expires) {
				u.expires = b.Deadline
			}
			continue
		case b.frame != nil && !b.Stored: // it is not the node's fault if a batch is not stored yet
			u.suspect = true
		}
		delete(u.unanswered, id)
		expired = append(expired, b)
	}
	if !u.expires.IsZero() {
		u.expiry.Reset(max(u.expires.Sub(now), expiryGrain))
	}
	return expired
}

// run keeps a stream to the node until the context ends or the node is gone.
func (u *uplink) run(ctx context.Context) {
	u.node.KeepTrying(ctx, func() error {
		defer u.fail()
		return u.contained(func() error { return u.serve(ctx) })
	}, func(err error) { u.log.Warn("no stream to message node", "node", u.node.Name, "error", err) })
}

// serve runs one stream until it breaks.
func (u *uplink) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := u.client.SendBatches(ctx)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	u.mu.Lock()
	u.up, u.leaving, u.suspect, u.frames = true, false, false, nil
	u.mu.Unlock()
	u.ready()

	received := make(chan error, 1)
	go func() {
		defer cancel()
		received <- u.contained(func() error { return u.receive(stream) })
	}()
	sendErr := u.send(ctx, stream)
	cancel()
	if err := <-received; err != nil {
		return err
	}
	return sendErr
}

// contained turns a panic into an error, which breaks the stream.
func (u *uplink) contained(f func() error) (err error) {
	if panicked := u.node.lister.Panics.Do(panics.Uplink, func() { err = f() }); panicked != nil {
		return panicked
	}
	return err
}

func (u *uplink) receive(stream millracev1.MessageService_SendBatchesClient) error {
	for {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errLeaving
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case response.GetDraining():
			u.leave()
		}
		for _, result := range response.GetResults() {
			if b := u.takeAnswered(result.GetId()); b != nil {
				b.done(result.GetResults(), nil)
			}
		}
		u.poke()
	}
}

func (u *uplink) takeAnswered(id uint64) *SendBatch {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.unanswered[id]
	delete(u.unanswered, id)
	if b != nil && b.frame != nil {
		b.frame.answered = true
	}
	u.suspect = false
	return b
}

func (u *uplink) send(ctx context.Context, stream millracev1.MessageService_SendBatchesClient) error {
	patience := time.NewTimer(0)
	defer patience.Stop()
	for {
		select {
		case <-u.wake:
		case <-patience.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if u.isLeaving() {
			if err := stream.CloseSend(); err != nil {
				return fmt.Errorf("close: %w", err)
			}
			<-ctx.Done() // receive ends it when everything is answered
			return ctx.Err()
		}
		runtime.Gosched() // lets readers that are about to add something do so: 18–35 messages a frame under load
		for {
			request, wait := u.collect()
			if request == nil {
				if wait > 0 {
					patience.Reset(wait)
				}
				break
			}
			if err := stream.Send(request); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}
}

// collect puts what waits into one frame. While two frames are unanswered it returns nil and how long to wait before asking
// again.
func (u *uplink) collect() (*millracev1.SendBatchesRequest, time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.queue) == 0 {
		return nil, 0
	}
	now := time.Now()
	open := u.frames[:0]
	for _, f := range u.frames {
		if !f.answered && now.Sub(f.at) < framePatience {
			open = append(open, f)
		}
	}
	u.frames = open
	if len(open) >= openFrames {
		return nil, framePatience - now.Sub(open[0].at)
	}
	frame := &sentFrame{at: now, answered: true}
	request := &millracev1.SendBatchesRequest{Batches: make([]*millracev1.SendBatch, 0, len(u.queue))}
	n, size := 0, 0
	for ; n < len(u.queue); n++ {
		b := u.unanswered[u.queue[n]]
		if b == nil {
			continue // it has run out of time
		}
		if size += b.Bytes; size > frameBytes && len(request.Batches) > 0 {
			break
		}
		b.frame = frame
		frame.answered = frame.answered && b.Stored
		request.Batches = append(request.Batches, b.toSend(u.queue[n]))
	}
	u.queue = slices.Delete(u.queue, 0, n)
	if len(request.Batches) == 0 {
		return nil, 0
	}
	u.frames = append(u.frames, frame)
	return request, 0
}

// leave passes what was not sent to other nodes, and ends the stream once the rest is answered.
func (u *uplink) leave() {
	unsent := u.takeUnsent()
	u.poke()
	for _, b := range unsent {
		b.done(nil, ErrUnsent)
	}
}

// takeUnsent removes and returns what was not sent. Nothing can be added after that.
func (u *uplink) takeUnsent() (unsent []*SendBatch) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.up, u.leaving = false, true
	for _, id := range u.queue {
		if b := u.unanswered[id]; b != nil {
			unsent = append(unsent, b)
			delete(u.unanswered, id)
		}
	}
	u.queue = nil
	return unsent
}

func (u *uplink) isLeaving() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.leaving
}

// fail ends all batches that the broken stream leaves behind.
func (u *uplink) fail() {
	for _, b := range u.takeAll() {
		if b.frame == nil {
			b.done(nil, ErrUnsent)
		} else {
			b.done(nil, errUnknown)
		}
	}
}

// takeAll removes and returns what was not answered, sent or not.
func (u *uplink) takeAll() map[uint64]*SendBatch {
	u.mu.Lock()
	defer u.mu.Unlock()
	left := u.unanswered
	u.up, u.queue, u.unanswered = false, nil, map[uint64]*SendBatch{}
	return left
}

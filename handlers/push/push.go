// Package push sends what happens to the gateways that are interested in it. A gateway attaches by a gRPC stream and names
// the channels that it is interested in. The handler encodes every record of message-events that this process reads once, and
// puts it into the queues of the gateways interested in one of its channels. All that waits for a gateway goes into one
// frame. Spans cover the records between: each span says of a part of a partition that its deliveries are all there are for
// the gateway. So a gateway notices what it has missed and reads that from the log. Therefore nobody waits for a gateway: one
// whose queue is full loses its stream.
//
// What concerns all gateways, whatever they are interested in, other handlers send through the hub (see [Hub.Broadcast]).
package push

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.uber.org/fx"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// Module provides the handler, and the [Hub] to be registered as PushService. It needs an [Admission]; [Options] are
// optional.
var Module = fx.Module("push", fx.Provide(
	fx.Annotate(New, fx.ParamTags(`optional:"true"`),
		fx.OnStart((*Hub).Start), fx.OnStop((*Hub).Stop)),
	fx.Annotate((*Hub).Handler, fx.ResultTags(`group:"handlers"`)),
))

// Admission knows what storage will make of a record before the record is stored.
type Admission interface {
	// Assigned is called when this process begins to read a partition. Its records come in order, beginning after the
	// position.
	Assigned(after events.Position)
	// Released is called when this process stops reading a partition.
	Released(partition int32)
	// Admits reports whether storage takes the record. It returns false for what storage refuses or skips, and true where
	// nobody can know that within moments. Admits must be asked of every record that others depend on (recalls, read marks
	// and changes of membership), and of the rest only if a gateway wants it.
	Admits(ctx context.Context, r *events.Record) bool
}

// Options bound what may wait for a gateway. The zero value means the defaults.
type Options struct {
	// QueueItems is how many spans, acknowledgements and signals may wait for a gateway. 0 means 8,192.
	QueueItems int
	// QueueBytes is how many bytes may wait for a gateway. 0 means 16 MiB.
	QueueBytes int
	// FrameBytes bounds the size of a frame, which has at least one item whatever its size. 0 means 1 MiB.
	FrameBytes int
	// Contain runs f, which works for one gateway or is the hub's own loop, and returns an error if f panicked. With nil the
	// hub does not contain panics.
	Contain func(f func()) error
	// Users is where changes of presence are published. With nil they are not.
	Users Users
	// Ticks replaces, in tests, the ticks of every second at which the hub covers the partitions that moved.
	Ticks <-chan time.Time
}

func (o Options) withDefaults() Options {
	if o.QueueItems == 0 {
		o.QueueItems = 8192
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 16 << 20
	}
	if o.FrameBytes == 0 {
		o.FrameBytes = 1 << 20
	}
	if o.Contain == nil {
		o.Contain = func(f func()) error {
			f()
			return nil
		}
	}
	return o
}

// Hub is the handler and the implementation of PushService.
type Hub struct {
	millracev1.UnimplementedPushServiceServer
	opts      Options
	admission Admission
	log       *slog.Logger

	routes     routes
	broadcasts broadcasts

	mu      sync.Mutex
	stopped bool
	stop    chan struct{}
	running sync.WaitGroup
}

var _ millracev1.PushServiceServer = (*Hub)(nil)

// New returns a hub without gateways.
func New(opts Options, admission Admission, log *slog.Logger) *Hub {
	h := &Hub{
		opts: opts.withDefaults(), admission: admission, log: log.With("handler", "push"), routes: newRoutes(),
		broadcasts: newBroadcasts(), stop: make(chan struct{}),
	}
	if opts.Users != nil {
		h.routes.presence.moves = newMoves()
	}
	return h
}

// NoReplay says why the push handler handles no replays.
const NoReplay = "connected clients are past it and would take it for nothing: they find it in history"

// Handler returns what the router needs to know about the handler.
func (h *Hub) Handler() events.Handler {
	return events.Handler{
		Name: "push", Topic: events.TopicMessages, Group: "push-consumer-group",
		Handle: h.handleOne, HandleBatch: h.handleAll, NoReplay: NoReplay,
		Assigned: h.assigned, Settled: h.routes.settle, Released: h.released,
	}
}

func (h *Hub) assigned(after events.Position) {
	h.admission.Assigned(after)
	h.routes.assign(after)
}

func (h *Hub) released(partition int32) {
	h.routes.release(partition)
	h.admission.Released(partition)
}

// handle never waits for a gateway and never fails because of one. It does not deliver a record that storage will refuse. The
// router settles such a record all the same, so the next span covers it.
func (h *Hub) handle(ctx context.Context, r *events.Record) error {
	channels, err := events.ChannelsOf(r)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	wanted := h.routes.wanted(r.Position, channels)
	if (wanted || decidesLater(r.Type)) && !h.admission.Admits(ctx, r) {
		h.log.Debug("record not shown, for storage does not take it", "type", string(r.Type), "partition", r.Partition, "seq", r.Seq)
		return nil
	}
	if !wanted {
		return nil
	}
	d, err := events.DeliveryOn(channels, r)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	h.routes.deliver(r.Position, d)
	return nil
}

// decidesLater reports whether a record of the type can change what storage makes of later records.
func decidesLater(t events.Type) bool {
	return t != events.NewMessage && t != events.MessageEdited
}

// handleAll saves the router some work for each record. Push gains nothing else from batches.
func (h *Hub) handleAll(ctx context.Context, records []events.Record) []error {
	errs := make([]error, len(records))
	for i := range records {
		errs[i] = h.handle(ctx, &records[i])
	}
	return errs
}

func (h *Hub) handleOne(ctx context.Context, r events.Record) error { return h.handle(ctx, &r) }

// Start starts the loops that cover the partitions that moved and publish changes of presence.
func (h *Hub) Start() {
	if h.opts.Users != nil {
		h.spawn(h.publishMoves)
	}
	h.spawn(func() {
		ticks := h.opts.Ticks
		if ticks == nil {
			ticker := time.NewTicker(time.Second)
			defer ticker.Stop()
			ticks = ticker.C
		}
		for {
			select {
			case <-ticks:
				_ = h.opts.Contain(h.routes.cover) // Contain counts a panic; the next tick covers what this one has not
			case <-h.stop:
				return
			}
		}
	})
}

// Stop ends every stream with UNAVAILABLE, and those that are opened later too. The hub must stop before the gRPC server,
// which waits for open streams when it stops gracefully. Stop may be called again.
func (h *Hub) Stop(ctx context.Context) error {
	h.mu.Lock()
	if !h.stopped {
		h.stopped = true
		close(h.stop)
	}
	h.mu.Unlock()
	done := make(chan struct{})
	go func() {
		h.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("push: stop: %w", ctx.Err())
	}
}

// spawn runs f in a goroutine and reports true, or reports false if the hub has stopped.
func (h *Hub) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return false
	}
	h.running.Go(f)
	return true
}

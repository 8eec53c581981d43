// Package push sends what happens to the gateways that want it. A gateway attaches by a gRPC stream and tells the channels
// it is interested in; every record of message-events that this process reads goes, encoded once, into the queues of the
// gateways interested in one of its channels, and from there, with all else that waits, into one frame. The rest of the
// records is covered by spans: each says from where to where its deliveries are everything, so that a gateway notices what
// it has missed and reads that from the log. Hence nobody is waited for: a gateway whose queue is full loses its stream.
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

// Admission knows, before a record is stored, what storage makes of it.
type Admission interface {
	// Assigned tells that the records of a partition come from now on, in order, beginning after the position.
	Assigned(after events.Position)
	// Released tells that no more of them come.
	Released(partition int32)
	// Admits reports whether storage takes the record. It is false for what storage refuses or passes over, true where that
	// cannot be known within moments. Of records that nobody wants only those must be asked for on which others depend:
	// recalls, read marks and changes of membership.
	Admits(ctx context.Context, r *events.Record) bool
}

// Options bound what a gateway may leave waiting. The zero value means the defaults.
type Options struct {
	// QueueItems is how many spans, acknowledgements and signals may wait for a gateway. 8,192 if 0.
	QueueItems int
	// QueueBytes is how many bytes these may have. 16 MiB if 0.
	QueueBytes int
	// FrameBytes is how much goes into one frame, which has at least one item. 1 MiB if 0.
	FrameBytes int
	// Contain runs what works for one gateway, or the hub's own loop, and returns an error if that panicked. If nil, panics
	// are not contained.
	Contain func(f func()) error
	// Ticks tells when to cover partitions that moved since; in place of every second.
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

// Hub is the handler and the PushService.
type Hub struct {
	millracev1.UnimplementedPushServiceServer
	opts      Options
	admission Admission
	log       *slog.Logger

	routes routes

	mu      sync.Mutex
	stopped bool
	stop    chan struct{}
	running sync.WaitGroup
}

var _ millracev1.PushServiceServer = (*Hub)(nil)

// New returns a hub without gateways.
func New(opts Options, admission Admission, log *slog.Logger) *Hub {
	return &Hub{
		opts: opts.withDefaults(), admission: admission, log: log.With("handler", "push"), routes: newRoutes(), stop: make(chan struct{}),
	}
}

// NoReplay is why a record that push has failed on is not pushed later.
const NoReplay = "connected clients are past it and would take it for nothing: they find it in history"

// Handler is its entry for the router.
func (h *Hub) Handler() events.Handler {
	return events.Handler{
		Name: "push", Topic: events.TopicMessages, Group: "push-consumer-group",
		Handle: h.handle, HandleBatch: h.handleAll, NoReplay: NoReplay,
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

// handle never waits and never fails on a gateway. What storage does not take is not shown: it is settled, so the next span
// covers it.
func (h *Hub) handle(ctx context.Context, r events.Record) error {
	channels, err := events.ChannelsOf(&r)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	wanted := h.routes.wanted(r.Position, channels)
	if (wanted || decidesLater(r.Type)) && !h.admission.Admits(ctx, &r) {
		h.log.Debug("record not shown, for storage does not take it", "type", string(r.Type), "partition", r.Partition, "seq", r.Seq)
		return nil
	}
	if !wanted {
		return nil
	}
	d, err := events.DeliveryOf(&r)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	h.routes.deliver(r.Position, d)
	return nil
}

// decidesLater reports whether what storage makes of later records can depend on one of the type.
func decidesLater(t events.Type) bool {
	return t != events.NewMessage && t != events.MessageEdited
}

// handleAll saves the router work for each record; there is nothing that a batch could share here.
func (h *Hub) handleAll(ctx context.Context, records []events.Record) []error {
	errs := make([]error, len(records))
	for i, r := range records {
		errs[i] = h.handle(ctx, r)
	}
	return errs
}

// Start begins to cover what moves.
func (h *Hub) Start() {
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
				_ = h.opts.Contain(h.routes.cover) // counted; what was not covered is with the next tick
			case <-h.stop:
				return
			}
		}
	})
}

// Stop ends every stream with UNAVAILABLE, and those that come. A gRPC server that is to stop gracefully waits for
// streams, so the hub stops first. It may be called again.
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

// spawn runs f unless the hub has stopped, which it tells.
func (h *Hub) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return false
	}
	h.running.Go(f)
	return true
}

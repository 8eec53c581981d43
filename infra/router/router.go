// Package router runs the handlers over the bus, each in its own consumer group. Watermill's router takes the waiting records
// of a partition as one message and passes it through these stages, the outermost first. Each stage is Watermill middleware:
//
//	unbundle   takes the message apart: each of its records runs, in order, through the other stages
//	finish     reports how the delivery ended, and records it if the record belongs to a trace (trace.go)
//	poison     moves a record with a permanent error to the poison queue
//	park       does so for a record that is stuck while the handler handles others (stuck.go)
//	retry      tries again after a transient error, each time from the context that the record came with
//	detach     lets the work go on when the router stops: only the timeout ends it
//	timeout    ends an attempt that takes too long
//	recoverer  turns a panic into a permanent error
//	yours      [Options].Middleware
//	decode     fails undecodable and misplaced records, and skips unknown types and others' replays
//	dedup      skips repeats, and marks events after success
//
// and then to the handler. In this order nothing is lost: a record is acknowledged once it was handled, skipped or poisoned,
// and comes again otherwise. A handler that takes batches first gets all the records of the message as one batch (batch.go);
// those that fail go through the stages.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// Options of a router. The zero value means the defaults.
type Options struct {
	// Timeout ends one attempt, if the handler honours its context and has no timeout of its own. 0 means 5 s.
	Timeout time.Duration
	// Retries is how often a failed attempt is repeated, with growing pauses, before the record is given back to the bus,
	// which delivers it again. 0 means 4; a negative number means none.
	Retries int
	// RetryPause is about the length of the first pause between attempts. 0 means 100 ms.
	RetryPause time.Duration
	// StuckAfter is how long a record may fail while others are handled before the router moves it to the poison queue, so
	// that it does not hold up its partition. 0 means 60 s.
	StuckAfter time.Duration
	// Marks returns the marks of the named handler. Nil means [NewMarks] with 100,000 events for each handler.
	Marks func(handler string) Marks
	// Middleware lists the user's own stages, the outermost first, for all handlers. They see single records, each once per
	// attempt. What they return or panic with counts as the handler's own: after an error the router tries again unless the
	// error is permanent, and nil without calling the next stage means that the record is done with. With any middleware,
	// handlers get no batches.
	Middleware []message.HandlerMiddleware
	// Observe is called after every delivery of a record. It must not block. It may be nil.
	Observe func(Observation)
	// Tracer records how handlers handle records whose headers say that they belong to a trace. Nil records nothing.
	Tracer *telemetry.Tracer
}

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Retries == 0 {
		o.Retries = 4
	}
	if o.RetryPause == 0 {
		o.RetryPause = 100 * time.Millisecond
	}
	if o.StuckAfter == 0 {
		o.StuckAfter = time.Minute
	}
	if o.Marks == nil {
		o.Marks = func(string) Marks { return NewMarks(100_000) }
	}
	if o.Observe == nil {
		o.Observe = func(Observation) {}
	}
	return o
}

// Router runs handlers until it is closed.
type Router struct {
	router      *message.Router
	consumers   []*consumer
	subscribers []message.Subscriber
	log         *slog.Logger

	mu       sync.Mutex
	started  bool
	closed   bool
	returned chan struct{} // closed when Run has returned
}

// New joins the handlers' consumer groups. Nothing is handled before Run. The router must be closed, even if Run was never
// called.
func New(bus pubsub.Bus, handlers []events.Handler, opts Options, log *slog.Logger) (*Router, error) {
	opts = opts.withDefaults()
	longest := opts.Timeout
	for _, h := range handlers {
		longest = max(longest, h.Timeout)
	}
	// An attempt may be followed by publishing a poison record, which has a deadline of its own.
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 2 * longest}, telemetry.Watermill{Log: log})
	if err != nil {
		return nil, fmt.Errorf("new router: %w", err)
	}
	r := &Router{router: router, log: log, returned: make(chan struct{})}
	shared := newDecoder()
	names := make(map[string]bool, len(handlers))
	for _, h := range handlers {
		if names[h.Name] {
			return nil, errors.Join(fmt.Errorf("two handlers are named %q", h.Name), r.closeSubscribers())
		}
		names[h.Name] = true
		c := newConsumer(bus, h, shared, opts, log)
		subscriber, err := bus.Subscriber(h.Group, pubsub.SubscriberConfig{Bundle: bundle, Gather: h.Gather, Progress: h.Progress, Assigned: c.assigned, Released: h.Released})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("handler %s: %w", h.Name, err), r.closeSubscribers())
		}
		r.consumers = append(r.consumers, c)
		r.subscribers = append(r.subscribers, subscriber)
		router.AddConsumerHandler(h.Name, h.Topic, subscriber, c.handle).AddMiddleware(c.stages...)
	}
	return r, nil
}

// Run handles records until the context is done or the router is closed. It then returns nil once the records being handled
// are finished or given back. It must be called at most once.
func (r *Router) Run(ctx context.Context) error {
	if !r.start() {
		return nil
	}
	defer close(r.returned)
	for _, c := range r.consumers {
		if err := c.start(); err != nil {
			return err
		}
	}
	// Watermill's router ignores the context while it has no handlers.
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-r.router.Running():
			if err := r.router.Close(); err != nil {
				r.log.Error("router did not close in order", "error", err)
			}
		case <-r.returned:
		}
	})
	defer stop()
	if err := r.router.Run(ctx); err != nil {
		return fmt.Errorf("run router: %w", err)
	}
	return nil
}

// start reports whether the router may run, which is false if it was closed before.
func (r *Router) start() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = !r.closed
	return r.started
}

// Running is closed once all handlers have subscribed.
func (r *Router) Running() <-chan struct{} { return r.router.Running() }

// Ready returns why the handlers do not run: they have not subscribed yet, or the router is closed.
func (r *Router) Ready() error {
	select {
	case <-r.router.Running():
	default:
		return errors.New("not subscribed yet")
	}
	if r.router.IsClosed() {
		return errors.New("closed")
	}
	return nil
}

// Close ends Run and leaves the consumer groups. Records being handled have twice the longest timeout to finish; the others come
// again to whichever process reads the partition next.
func (r *Router) Close() error {
	r.mu.Lock()
	r.closed = true
	started := r.started
	r.mu.Unlock()
	if started {
		// Watermill's router cannot be closed while it subscribes.
		select {
		case <-r.router.Running():
		case <-r.returned:
		}
	}
	select {
	case <-r.router.Running():
		return errors.Join(r.router.Close(), r.closeSubscribers())
	default:
		// Watermill's router would wait in vain for handlers that never ran.
		return r.closeSubscribers()
	}
}

func (r *Router) closeSubscribers() error {
	var errs []error
	for _, s := range r.subscribers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

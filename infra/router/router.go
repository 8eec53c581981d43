// Package router runs the handlers over the bus, each in its own consumer group. Watermill's router brings what waits in a
// partition as one message, through stages that are middleware of Watermill's, outermost first:
//
//	unbundle   takes the message apart: each of its records runs, in order, through the others
//	finish     observes
//	poison     permanent errors go to the poison queue
//	park       so do others, of a record that is stuck while the handler does well otherwise (stuck.go)
//	retry      transient errors are tried again, each time from the context that the record came with
//	detach     the work survives a shutdown: only the timeout ends it
//	timeout
//	recoverer  a panic becomes a permanent error
//	yours      [Options].Middleware
//	decode     undecodable and misplaced records fail, unknown types and others' replays are skipped
//	dedup      skips repeats, marks after success
//
// to the handler. In this order nothing is lost: a record is acknowledged once it was handled, skipped or poisoned, and
// comes again otherwise. A handler that takes batches is tried with all of them first (batch.go); what fails goes this way.
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
	// Timeout ends one attempt of a handler that honours its context. 5 s if 0.
	Timeout time.Duration
	// Retries is how often a failed attempt is repeated, with growing pauses, before the record is given back to the bus,
	// which sends it again. 4 if 0; negative: none.
	Retries int
	// RetryPause is about the first pause between attempts. 100 ms if 0.
	RetryPause time.Duration
	// StuckAfter is how long a record may fail while others are handled before it is parked in the poison queue, so that it
	// does not hold up its partition. 60 s if 0.
	StuckAfter time.Duration
	// Marks makes the memory for repeats of the named handler. [NewMarks] of 100,000 events each if nil.
	Marks func(handler string) Marks
	// Middleware are stages of one's own, outermost first, for all handlers. They see single records, each once per attempt,
	// and what they return or panic with is treated as the handler's own: an error is tried again unless it is permanent, and
	// nil without calling the next stage means that the record is done with. With any, handlers are given no batches.
	Middleware []message.HandlerMiddleware
	// Observe is told of every delivery of a record once it is over. It must not block. May be nil.
	Observe func(Observation)
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
	returned chan struct{} // closed when Run has
}

// New joins the handlers' consumer groups. Nothing is handled before Run. The router must be closed, also if never run.
func New(bus pubsub.Bus, handlers []events.Handler, opts Options, log *slog.Logger) (*Router, error) {
	opts = opts.withDefaults()
	// An attempt may be followed by the publishing of a poisoned record, which has a deadline of its own.
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 2 * opts.Timeout}, telemetry.Watermill{Log: log})
	if err != nil {
		return nil, fmt.Errorf("new router: %w", err)
	}
	r := &Router{router: router, log: log, returned: make(chan struct{})}
	names := make(map[string]bool, len(handlers))
	for _, h := range handlers {
		if names[h.Name] {
			return nil, errors.Join(fmt.Errorf("two handlers are named %q", h.Name), r.closeSubscribers())
		}
		names[h.Name] = true
		c := newConsumer(bus, h, opts, log)
		subscriber, err := bus.Subscriber(h.Group, pubsub.SubscriberConfig{Bundle: bundle, Progress: h.Progress, Assigned: c.assigned, Released: h.Released})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("handler %s: %w", h.Name, err), r.closeSubscribers())
		}
		r.consumers = append(r.consumers, c)
		r.subscribers = append(r.subscribers, subscriber)
		router.AddConsumerHandler(h.Name, h.Topic, subscriber, c.handle).AddMiddleware(c.stages...)
	}
	return r, nil
}

// Run handles records until the context is done or the router is closed; then it returns nil once those in hand are
// finished or given back. It must be called at most once.
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
	// Watermill itself does not heed the context while there are no handlers.
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

// start reports whether the router may run: it was not closed before.
func (r *Router) start() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = !r.closed
	return r.started
}

// Running is closed once all handlers have subscribed.
func (r *Router) Running() <-chan struct{} { return r.router.Running() }

// Ready reports why the handlers do not run: they have not subscribed yet, or the router is closed.
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

// Close ends Run and leaves the consumer groups. Records in hand have twice the timeout to finish; the others come again
// to whoever reads the partition next.
func (r *Router) Close() error {
	r.mu.Lock()
	r.closed = true
	started := r.started
	r.mu.Unlock()
	if started {
		// Watermill cannot be stopped while it subscribes.
		select {
		case <-r.router.Running():
		case <-r.returned:
		}
	}
	select {
	case <-r.router.Running():
		return errors.Join(r.router.Close(), r.closeSubscribers())
	default:
		// Watermill would wait in vain for handlers that never ran.
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

// Package panics keeps a panic from ending more than it has to. Code that starts a goroutine, or calls other people's code
// from a loop of its own, runs it with [Panics.Do] and decides by the error what ends: a request, a session, a stream. Panics
// counts each panic by the place where it was contained and logs it with its stack.
//
// The router contains panics of handlers, and poisons the record. The batcher of the storage handler contains those of the
// store.
//
// A panic is not contained where it may have left state behind that others rely on: in the parts of a process (router,
// gateway, gRPC server), and in the partition queues and assignments of the bus, which promise an order. There the process
// ends, and whatever supervises it starts it again.
package panics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The places where panics are contained: the values of the metric's label.
const (
	Session    = "session"    // a client's connection: it is closed with 1011
	Uplink     = "uplink"     // a gateway's stream to a message node: it is opened again
	Attach     = "attach"     // a gateway's stream to a push node: it is opened again
	Gap        = "gap"        // reading what a gateway has missed: the read is repeated
	Call       = "call"       // a gRPC call: it returns INTERNAL
	Push       = "push"       // a push node's stream to a gateway: it breaks
	Background = "background" // a loop that shares no state: it starts again
)

// ErrPanic is wrapped by the errors of Do.
var ErrPanic = errors.New("panic")

// restartPause is the pause before a loop that has panicked starts again.
const restartPause = time.Second

// Panics counts and logs panics. A nil Panics contains them too, and logs them with the default logger.
type Panics struct {
	total *prometheus.CounterVec
	log   *slog.Logger
}

// New registers the metric, with all its series at zero.
func New(reg prometheus.Registerer, log *slog.Logger) *Panics {
	p := &Panics{log: log, total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_panics_total", Help: "Panics that were contained, by what they ended or interrupted. Each is a bug.",
	}, []string{"where"})}
	for _, where := range []string{Session, Uplink, Attach, Gap, Call, Push, Background} {
		p.total.WithLabelValues(where)
	}
	reg.MustRegister(p.total)
	return p
}

// Do runs f and returns an error that wraps ErrPanic if it panicked.
func (p *Panics) Do(where string, f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = p.Recovered(where, v)
		}
	}()
	f()
	return nil
}

// Recovered counts and logs what a deferred function has recovered, and returns it as an error.
func (p *Panics) Recovered(where string, v any) error {
	log := slog.Default()
	if p != nil {
		p.total.WithLabelValues(where).Inc()
		log = p.log
	}
	log.Error("contained a panic", "where", where, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	return fmt.Errorf("%w in %s: %v", ErrPanic, where, v)
}

// Keep runs a loop that returns when its context ends. If the loop panics, Keep starts it again after a pause.
func (p *Panics) Keep(ctx context.Context, loop func(context.Context)) {
	for p.Do(Background, func() { loop(ctx) }) != nil {
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return
		}
	}
}

// Kept is like Keep for a loop that may fail: the function it returns returns the loop's own error.
func (p *Panics) Kept(loop func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		p.Keep(ctx, func(ctx context.Context) { err = loop(ctx) })
		return err
	}
}

// Package panics keeps a panic from ending more than it belongs to. Whoever starts a goroutine, or calls what is somebody
// else's from a loop of its own, has it run by [Panics.Do] and decides by the error what ends: a request, a session, a stream.
// Each panic is counted by where it was and logged with its stack.
//
// Handlers are contained by the router, which poisons the record, and the store by the batcher of the storage handler.
//
// What may have left state behind that others rely on is not contained: the parts of a process (router, gateway, gRPC server)
// and the partition queues and assignments of the bus, whose promise is an order. There the process ends, and whoever runs it starts it anew.
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

// Where panics are contained: the values of the metric's label.
const (
	Session    = "session"    // a client's connection: it is closed with 1011
	Uplink     = "uplink"     // a gateway's stream to a message node: it is made anew
	Attach     = "attach"     // a gateway's stream to a push node: it is made anew
	Gap        = "gap"        // reading what a gateway has missed: it is tried again
	Call       = "call"       // a gRPC call: it is answered by INTERNAL
	Push       = "push"       // a push node's stream to a gateway: it breaks
	Background = "background" // a loop without state of others: it starts again
)

// ErrPanic is what the errors of Do wrap.
var ErrPanic = errors.New("panic")

// restartPause is how long a loop that has panicked is left alone.
const restartPause = time.Second

// Panics counts and logs. A nil one contains panics too, and logs them by the default logger.
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

// Keep runs a loop that returns once its context has ended. One that panics starts again after a pause.
func (p *Panics) Keep(ctx context.Context, loop func(context.Context)) {
	for p.Do(Background, func() { loop(ctx) }) != nil {
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return
		}
	}
}

// Kept is Keep for a loop that may fail: it returns the loop's own error.
func (p *Panics) Kept(loop func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		p.Keep(ctx, func(ctx context.Context) { err = loop(ctx) })
		return err
	}
}

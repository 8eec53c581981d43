package poison

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
)

// Retrier replays what the router has parked because it was stuck: each entry once it has waited, by whoever reads the
// partition of the record for the handler that it is for. One that is still stuck then is parked anew.
type Retrier struct {
	after    time.Duration
	log      *slog.Logger
	handlers []events.Handler
	parked   map[string]*parked // by topic

	mu  sync.Mutex
	own map[claim]bool
}

// claim says that this process reads the partition for the handler.
type claim struct {
	handler   string
	partition int32
}

// NewRetrier returns one for the handlers, which looks about every so often for what was parked at least so long ago. Its
// [Retrier.Handlers] are to be run in place of them: they tell it what is this process's to do.
func NewRetrier(bus pubsub.Bus, handlers []events.Handler, after time.Duration, log *slog.Logger) *Retrier {
	r := &Retrier{after: after, log: log, parked: make(map[string]*parked), own: make(map[claim]bool)}
	for _, h := range handlers {
		p := r.parked[h.Topic]
		if p == nil {
			p = &parked{queue: New(bus, h.Topic), log: bus.Log(events.PoisonTopic(h.Topic)), handlers: make(map[string]bool)}
			r.parked[h.Topic] = p
		}
		p.handlers[h.Name] = true
		r.handlers = append(r.handlers, r.watch(h))
	}
	return r
}

// Handlers are those that it was made for.
func (r *Retrier) Handlers() []events.Handler { return r.handlers }

// watch notes what the handler's partitions are.
func (r *Retrier) watch(h events.Handler) events.Handler {
	claimed, released := h.Claimed, h.Released
	h.Claimed = func(after events.Position) {
		r.set(claim{h.Name, after.Partition}, true)
		if claimed != nil {
			claimed(after)
		}
	}
	h.Released = func(partition int32) {
		r.set(claim{h.Name, partition}, false)
		if released != nil {
			released(partition)
		}
	}
	return h
}

func (r *Retrier) set(c claim, own bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own[c] = own
}

// Run works until the context ends.
func (r *Retrier) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.after)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		for topic, p := range r.parked {
			n, err := p.replay(ctx, r.due)
			if n > 0 {
				r.log.Info("stuck records are tried again", "topic", topic, "records", n)
			}
			if err != nil && ctx.Err() == nil {
				r.log.Warn("stuck records cannot be tried again yet", "topic", topic, "error", err)
			}
		}
	}
}

// due reports whether the entry is to be replayed now, and here.
func (r *Retrier) due(e *Entry) bool {
	pos, err := events.ParsePosition(e.Position)
	if err != nil || e.Replayed || time.Since(e.Time) < r.after {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own[claim{e.Handler, pos.Partition}]
}

// parked are the stuck records of a topic.
type parked struct {
	queue    *Queue
	log      pubsub.Log // of the queue
	handlers map[string]bool

	end     map[int32]int64 // how far the queue went when it was read
	entries []*Entry        // that it then held of the handlers'
}

// replay replays the entries that are due, and answers how many. One that cannot be does not keep back the others.
func (p *parked) replay(ctx context.Context, due func(*Entry) bool) (int, error) {
	if err := p.read(ctx); err != nil {
		return 0, err
	}
	n := 0
	var errs []error
	for _, e := range p.entries {
		if ctx.Err() != nil || !due(e) {
			continue
		}
		if _, err := p.queue.Replay(ctx, []*Entry{e}, Filter{}, 0); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// read reads the queue if there is more in it than the last time.
func (p *parked) read(ctx context.Context) error {
	end, err := p.log.End(ctx)
	if err != nil || maps.Equal(end, p.end) {
		return err
	}
	all, err := p.queue.Entries(ctx)
	if err != nil {
		return err
	}
	p.end, p.entries = end, nil
	for _, e := range all {
		if !e.Replayed && p.handlers[e.Handler] && strings.HasPrefix(e.Reason, router.ReasonStuck) {
			p.entries = append(p.entries, e)
		}
	}
	return nil
}

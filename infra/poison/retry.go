package poison

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/events"
)

// Retrier replays the records that the router has poisoned because they were stuck, each after it has waited. The process
// that reads the record's partition for the handler replays it. A record that is still stuck then goes to the queue again.
type Retrier struct {
	after     time.Duration
	log       *slog.Logger
	handlers  []events.Handler
	followers []*Follower

	mu  sync.Mutex
	own map[handlerPartition]bool
}

// handlerPartition is a partition that a handler reads.
type handlerPartition struct {
	handler   string
	partition int32
}

// NewRetrier returns a retrier for the handlers and the queues that are followed. About once every `after` it replays the
// entries that are at least that old. The caller must run [Retrier.Handlers] in place of the handlers, which is how the
// retrier learns which partitions this process reads.
func NewRetrier(followers []*Follower, handlers []events.Handler, after time.Duration, log *slog.Logger) *Retrier {
	r := &Retrier{after: after, log: log, followers: followers, own: make(map[handlerPartition]bool)}
	for _, h := range handlers {
		r.handlers = append(r.handlers, r.watch(h))
	}
	return r
}

// Handlers returns the handlers that the retrier was made for, with hooks added.
func (r *Retrier) Handlers() []events.Handler { return r.handlers }

// watch adds hooks to the handler that note which partitions it reads.
func (r *Retrier) watch(h events.Handler) events.Handler {
	assigned, released := h.Assigned, h.Released
	h.Assigned = func(after events.Position) {
		r.set(handlerPartition{h.Name, after.Partition}, true)
		if assigned != nil {
			assigned(after)
		}
	}
	h.Released = func(partition int32) {
		r.set(handlerPartition{h.Name, partition}, false)
		if released != nil {
			released(partition)
		}
	}
	return h
}

func (r *Retrier) set(p handlerPartition, own bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own[p] = own
}

// Run works until the context ends. It returns nil.
func (r *Retrier) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.after)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		for _, f := range r.followers {
			n, err := r.replay(ctx, f)
			if n > 0 {
				r.log.Info("stuck records are tried again", "topic", f.queue.topic, "records", n)
			}
			if err != nil && ctx.Err() == nil {
				r.log.Warn("stuck records cannot be tried again yet", "topic", f.queue.topic, "error", err)
			}
		}
	}
}

// replay replays the entries that are due, and returns how many. An entry that cannot be replayed does not hold back the
// others.
func (r *Retrier) replay(ctx context.Context, f *Follower) (int, error) {
	stuck, err := f.stuck(ctx)
	if err != nil {
		return 0, err
	}
	n, failed := 0, 0
	var first error
	for _, s := range stuck {
		if ctx.Err() != nil || !r.due(&s) {
			continue
		}
		e, err := f.queue.entryAt(ctx, s.at)
		if err == nil {
			_, err = f.queue.Replay(ctx, []*Entry{e}, Filter{}, 0)
		}
		switch {
		case err != nil:
			failed++
			first = cmp.Or(first, err)
		case e.Replayed:
			f.replayed(s.at)
			n++
		default:
			f.drop(s.at)
			r.log.Warn("a stuck record cannot be tried again: the log no longer has the original", "topic", f.queue.topic, "entry", e.ID)
		}
	}
	if failed > 0 {
		return n, fmt.Errorf("%d of them, the first one: %w", failed, first)
	}
	return n, nil
}

// due reports whether this process has to replay the entry now.
func (r *Retrier) due(e *stuckEntry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(e.time) >= r.after && r.own[handlerPartition{e.handler, e.record.Partition}]
}

package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/events"
)

// endpoint sends the events of one consumer group.
type endpoint struct {
	*Sender
	sent *sent
}

func newEndpoint(e Endpoint, store Store, trust *tls.Config, log *slog.Logger) *endpoint {
	return &endpoint{Sender: NewSender(e, store, trust, log), sent: newSent()}
}

// handler returns what the router needs to know about the endpoint.
func (e *endpoint) handler() events.Handler {
	name := HandlerName + "-" + e.Name
	return events.Handler{
		Name: name, Topic: events.TopicMessages, Group: name + "-consumer-group",
		Handle: e.handle, HandleBatch: e.handleBatch, Gather: 20 * time.Millisecond, Timeout: e.Timeout + hold, Ready: e.Ready,
		Assigned: func(after events.Position) { e.sent.forget(after.Partition) },
		Settled:  e.sent.settled, Released: e.sent.forget,
	}
}

// wants reports whether the endpoint gets the record.
func (e *endpoint) wants(r *events.Record) bool {
	return (len(e.Types) == 0 || slices.Contains(e.Types, r.Type)) && (len(e.Notify) == 0 || len(e.notified(r)) > 0)
}

// notified returns who of those for whom the endpoint is told wants to be notified of the record, by the rules.
func (e *endpoint) notified(r *events.Record) []string {
	return slices.DeleteFunc(events.SplitNames(r.Header(events.NotifyHeader)), func(name string) bool {
		return !slices.Contains(e.Notify, name)
	})
}

// handleBatch sends the records of a partition, several at once. If the endpoint wants its events in order, those of one
// conversation go one after the other, and nothing goes behind one that has failed. Once one is held back all others are.
func (e *endpoint) handleBatch(ctx context.Context, records []events.Record) []error {
	errs := make([]error, len(records))
	var held atomic.Bool
	var sending errgroup.Group
	sending.SetLimit(e.Parallel)
	for _, lane := range e.lanes(records) {
		sending.Go(func() error {
			failed := held.Load()
			for _, i := range lane {
				if failed {
					errs[i] = ErrHeld
					continue
				}
				errs[i] = e.sendAgain(ctx, &records[i])
				failed = errs[i] != nil
				if errors.Is(errs[i], ErrHeld) {
					held.Store(true)
				}
			}
			return nil
		})
	}
	_ = sending.Wait() // each record has its own error
	return errs
}

// lanes returns the indexes of the records that the endpoint wants, in groups of those that must not overtake each other.
func (e *endpoint) lanes(records []events.Record) [][]int {
	var lanes [][]int
	of := make(map[string]int)
	for i := range records {
		if !e.wants(&records[i]) {
			continue
		}
		lane, known := of[records[i].ConversationKey()]
		if !known || !e.InOrder {
			lane = len(lanes)
			lanes = append(lanes, nil)
			of[records[i].ConversationKey()] = lane
		}
		lanes[lane] = append(lanes[lane], i)
	}
	return lanes
}

// In a batch a request that failed is repeated at once, because the records behind it can do nothing but wait.
const (
	attempts   = 4
	retryPause = 50 * time.Millisecond
)

// sendAgain sends the record, several times if that may help.
func (e *endpoint) sendAgain(ctx context.Context, r *events.Record) error {
	for n := 1; ; n++ {
		err := e.sendOnce(ctx, r)
		if err == nil || n == attempts || events.IsPermanent(err) || errors.Is(err, ErrHeld) {
			return err
		}
		pause := retryPause << (n - 1)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return err
		}
	}
}

// sendOnce sends the record unless the endpoint has got it in this process before.
func (e *endpoint) sendOnce(ctx context.Context, r *events.Record) error {
	if e.sent.has(r.Position) {
		return nil
	}
	if err := e.send(ctx, r); err != nil {
		return err
	}
	e.sent.add(r.Position)
	return nil
}

// handle handles a record that comes alone. A replay has the position of a record that was settled long ago.
func (e *endpoint) handle(ctx context.Context, r events.Record) error {
	switch {
	case !e.wants(&r):
		return nil
	case r.Replay:
		return e.send(ctx, &r)
	}
	return e.sendOnce(ctx, &r)
}

// send sends one record.
func (e *endpoint) send(ctx context.Context, r *events.Record) error {
	body, err := payload(r, e.notified(r))
	if err != nil {
		return err
	}
	return e.Send(ctx, r.EventID, body)
}

// Package route copies records of message-events to the topics of the routes that rules have decided on, for consumers that
// want only those. The decision travels with the record, so nothing is evaluated here. Storage and push read message-events
// alone, so the order of conversations and the cursors of clients do not depend on routes.
//
// A copy has the key, the value, the headers and so the event id of its original, and its position in the header
// [events.OriginHeader]. The copies of a partition are in its order. After a failure a copy may be made again behind later ones;
// consumers recognise it by its event id, or by its origin.
package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/fx"

	"millrace/events"
)

// Module provides the handler; it needs a [Publisher].
var Module = fx.Module("route", fx.Provide(
	fx.Annotate(Handler, fx.ResultTags(`group:"handlers"`)),
))

// Name is the handler's name.
const Name = "route"

// Copy is a copy of a record.
type Copy struct {
	ID, Key string
	Value   []byte
	Headers map[string]string
}

// CopyOf returns the copy of a record, which says where the record lies.
func CopyOf(r *events.Record) Copy {
	headers := make(map[string]string, 1)
	if r.Headers != nil {
		headers = r.Headers.All()
	}
	headers[events.OriginHeader] = r.Position.String()
	return Copy{r.EventID, r.Key(), r.Value, headers}
}

// Publisher publishes copies.
type Publisher interface {
	// PublishCopies puts the copies on the topic in their order, and returns how many of them, counted from the first, are
	// there: all if the error is nil. The error wraps [ErrNoTopic] if the topic does not exist.
	PublishCopies(ctx context.Context, topic string, copies []Copy) (int, error)
}

// ErrNoTopic says that the topic of a route does not exist. It is made when the rules that name the route are loaded.
var ErrNoTopic = errors.New("no such topic")

// Handler returns what the router needs to know about the handler.
func Handler(to Publisher) events.Handler {
	r := router{to}
	return events.Handler{
		Name: Name, Topic: events.TopicMessages, Group: "route-consumer-group", Handle: r.handle, HandleBatch: r.handleBatch,
		Gather: 20 * time.Millisecond,
	}
}

type router struct{ to Publisher }

func (t router) handle(ctx context.Context, r events.Record) error {
	return t.handleBatch(ctx, []events.Record{r})[0]
}

// batch is the copies for one topic, of which records they are, and how many of them are there.
type batch struct {
	topic  string
	copies []Copy
	of     []int
	done   int
	err    error
}

// handleBatch publishes once for each topic, to all topics at the same time. A record has failed if one of its copies has. It
// has failed for good only if nothing of it is left to be tried again.
func (t router) handleBatch(ctx context.Context, records []events.Record) []error {
	errs := make([]error, len(records))
	var batches []*batch
	byRoute := make(map[string]*batch)
	for i := range records {
		r := &records[i]
		for _, name := range events.SplitNames(r.Header(events.RoutesHeader)) {
			if err := events.CheckRoute(name); err != nil {
				errs[i] = events.Permanent(fmt.Errorf("header %s: %w", events.RoutesHeader, err))
				continue
			}
			b := byRoute[name]
			if b == nil {
				b = &batch{topic: events.RouteTopic(name)}
				byRoute[name], batches = b, append(batches, b)
			}
			b.add(i, r)
		}
	}
	var publishing sync.WaitGroup
	for _, b := range batches {
		publishing.Go(func() { b.done, b.err = t.to.PublishCopies(ctx, b.topic, b.copies) })
	}
	publishing.Wait()
	for _, b := range batches {
		if b.err == nil {
			continue
		}
		err := fmt.Errorf("copy to %s: %w", b.topic, b.err)
		missing := errors.Is(err, ErrNoTopic)
		if missing {
			err = events.Permanent(err)
		}
		for _, i := range b.of[b.done:] {
			if errs[i] == nil || !missing {
				errs[i] = err
			}
		}
	}
	return errs
}

func (b *batch) add(i int, r *events.Record) {
	b.copies, b.of = append(b.copies, CopyOf(r)), append(b.of, i)
}

// Package analytics counts: messages, users who send and conversations, by minute, hour and day. The store keeps the figures,
// and counts no message twice however often the router passes it.
package analytics

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/fx"

	"millrace/events"
)

// Module provides the handler; it needs a [Config] and a [Store].
var Module = fx.Module("analytics", fx.Provide(
	New, fx.Annotate((*Analytics).Handler, fx.ResultTags(`group:"handlers"`)),
))

// Name is the handler's name, and that of the series of its first version.
const Name = "analytics"

// Config says under which name the store keeps the figures.
type Config struct{ Series string }

// Store keeps the figures of every series.
type Store interface {
	// CountMessages counts those messages among the records, all of one partition and ascending, that the series has not
	// counted yet. If it fails the same records may be counted again.
	CountMessages(ctx context.Context, series string, records []events.Record, now time.Time) error
	// DropBuckets deletes what is no longer kept of the series.
	DropBuckets(ctx context.Context, series string, now time.Time) error
}

const (
	// gather makes batches large: what is counted together costs the store as much as one message of each conversation.
	gather = 500 * time.Millisecond
	// dropInterval is how often what is no longer kept is deleted.
	dropInterval = 10 * time.Minute
)

// Analytics counts messages.
type Analytics struct {
	series string
	store  Store

	mu      sync.Mutex
	dropped time.Time
}

// New returns the handler.
func New(c Config, store Store) *Analytics { return &Analytics{series: c.Series, store: store} }

// Handler returns what the router needs to know about the handler.
func (a *Analytics) Handler() events.Handler {
	return events.Handler{
		Name: Name, Topic: events.TopicMessages, Group: "analytics-consumer-group",
		Handle: a.handle, HandleBatch: a.handleBatch, Gather: gather,
	}
}

func (a *Analytics) handle(ctx context.Context, r events.Record) error {
	return a.handleBatch(ctx, []events.Record{r})[0]
}

// handleBatch counts all or none of the messages.
func (a *Analytics) handleBatch(ctx context.Context, records []events.Record) []error {
	err := a.store.CountMessages(ctx, a.series, records, time.Now())
	if err == nil && a.dueToDrop() {
		err = a.store.DropBuckets(ctx, a.series, time.Now())
	}
	return slices.Repeat([]error{err}, len(records))
}

func (a *Analytics) dueToDrop() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	due := time.Since(a.dropped) >= dropInterval
	if due {
		a.dropped = time.Now()
	}
	return due
}

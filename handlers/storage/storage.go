// Package storage keeps every record of message-events in the store. The batcher saves the records of all partitions that
// wait at the same time as one batch, because a commit costs the same for one record as for hundreds. Each record gets its
// own result.
//
// With the records the store keeps the stored position of each partition. Records that were skipped or poisoned count as
// stored. So a store whose positions lie below what the consumer group has committed has lost something, for example because
// a backup was restored, and the group goes back to those positions.
package storage

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.uber.org/fx"

	"millrace/events"
)

// Store keeps records. Saving is idempotent: a record that is saved again changes nothing.
type Store interface {
	// SaveBatch saves records, which ascend within each partition, and returns one error or nil for each.
	SaveBatch(ctx context.Context, batch []events.Record) []error
	// Stored returns, by partition, the stored position: everything up to it is saved or otherwise done with.
	Stored(ctx context.Context) (map[int32]int64, error)
	// Advance notes that everything up to the positions is done with.
	Advance(ctx context.Context, positions map[int32]int64) error
}

// Module provides the handler; it needs a [Store].
var Module = fx.Module("storage", fx.Provide(
	fx.Annotate(New, fx.OnStart((*Storage).Start), fx.OnStop((*Storage).Stop)),
	fx.Annotate((*Storage).Handler, fx.ResultTags(`group:"handlers"`)),
))

// ErrStopped is returned for a record that comes after Stop. It is transient: the record comes again.
var ErrStopped = errors.New("storage: stopped")

// Group is the handler's consumer group.
const Group = "storage-consumer-group"

// Storage is the storage handler.
type Storage struct {
	store   Store
	batcher *batcher
}

// New returns the handler for the store. Its Start must be called before records come.
func New(store Store, log *slog.Logger) *Storage {
	return &Storage{store: store, batcher: newBatcher(store, log.With("handler", "storage"))}
}

// Handler returns what the router needs to know about the handler.
func (s *Storage) Handler() events.Handler {
	return events.Handler{
		Name: "storage", Topic: events.TopicMessages, Group: Group,
		Handle: s.batcher.save, HandleBatch: s.batcher.saveAll, Gather: 20 * time.Millisecond, Settled: s.batcher.settled, Progress: s.store.Stored,
	}
}

// Start starts saving.
func (s *Storage) Start() { go s.batcher.run() }

// Stop returns when the batch being saved is finished or the context is done. Records that wait get [ErrStopped].
func (s *Storage) Stop(ctx context.Context) error { return s.batcher.stop(ctx) }

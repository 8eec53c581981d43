// Package storage keeps every record of message-events in the store. Records of all partitions that wait together are
// saved as one batch, since a commit costs the same for one as for hundreds; each gets its own result.
//
// With the records the store keeps how far each partition is stored. What was skipped or poisoned counts too, so a store
// that has less than the consumer group has committed is one that has lost something, such as a backup that was put back:
// then the group goes back to what the store has.
package storage

import (
	"context"
	"errors"
	"log/slog"

	"go.uber.org/fx"

	"millrace/events"
)

// Store keeps records. Saving is idempotent: what is stored stays as it was first.
type Store interface {
	// SaveBatch saves records that ascend within each partition and answers one error, or nil, for each.
	SaveBatch(ctx context.Context, batch []events.Record) []error
	// Stored returns per partition the position up to which everything is saved or done with otherwise.
	Stored(ctx context.Context) (map[int32]int64, error)
	// Advance notes that everything up to the positions is done with.
	Advance(ctx context.Context, positions map[int32]int64) error
}

// Module provides the handler; it needs a [Store].
var Module = fx.Module("storage", fx.Provide(
	fx.Annotate(New, fx.OnStart((*Storage).Start), fx.OnStop((*Storage).Stop)),
	fx.Annotate((*Storage).Handler, fx.ResultTags(`group:"handlers"`)),
))

// ErrStopped is the answer to a record that comes after Stop. It is transient: the record comes again.
var ErrStopped = errors.New("storage: stopped")

// Group is the handler's consumer group.
const Group = "storage-consumer-group"

// Storage is the handler.
type Storage struct {
	store   Store
	batcher *batcher
}

// New returns the handler for the store. It must be started.
func New(store Store, log *slog.Logger) *Storage {
	return &Storage{store: store, batcher: newBatcher(store, log.With("handler", "storage"))}
}

// Handler is its entry for the router.
func (s *Storage) Handler() events.Handler {
	return events.Handler{
		Name: "storage", Topic: events.TopicMessages, Group: Group,
		Handle: s.batcher.save, HandleBatch: s.batcher.saveAll, Settled: s.batcher.settled, Progress: s.store.Stored,
	}
}

// Start begins to save.
func (s *Storage) Start() { go s.batcher.run() }

// Stop returns when the batch being saved is finished, or the context done. Records that wait get [ErrStopped].
func (s *Storage) Stop(ctx context.Context) error { return s.batcher.stop(ctx) }

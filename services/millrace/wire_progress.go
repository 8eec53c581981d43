package main

import (
	"context"
	"slices"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/storage"
	"millrace/infra/pubsub"
)

// progressStore is the part of a store that knows how far handlers have come whose work is in it.
type progressStore interface {
	Progress(ctx context.Context, handler string) (map[int32]int64, error)
	AdvanceProgress(ctx context.Context, handler string, done events.Position) error
}

// keepProgress returns the handlers, of which those whose work is in the store note there how far they have come.
func keepProgress(db progressStore, running []events.Handler) []events.Handler {
	running = slices.Clone(running)
	for i := range running {
		h := &running[i]
		if !handlers.InStore(h.Group) {
			continue
		}
		name := h.Name
		h.Progress = func(ctx context.Context) (map[int32]int64, error) { return db.Progress(ctx, name) }
		h.Advance = func(ctx context.Context, done events.Position) error { return db.AdvanceProgress(ctx, name, done) }
	}
	return running
}

// progressOf returns the Progress of a group's handler, which need not run in this process, or nil if its work is not in the
// store.
func progressOf(db storeBackend, group string) func(context.Context) (map[int32]int64, error) {
	switch name, _, ok := handlers.Of(group); {
	case group == storage.Group:
		return db.Stored
	case ok && handlers.InStore(group):
		return func(ctx context.Context) (map[int32]int64, error) { return db.Progress(ctx, name) }
	}
	return nil
}

// keptLog counts as committed by a handler whose work is in the store no more than the store has. So a restored backup shows as
// lag until what it lacks is done again, even while the handler does not run.
type keptLog struct {
	pubsub.Log
	db storeBackend
}

func (l keptLog) Committed(ctx context.Context, group string) (map[int32]int64, error) {
	return pubsub.Kept(ctx, l.Log, group, progressOf(l.db, group))
}

package router

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
)

// Marks remember where a handler has handled an event. They are bounded and may be lost, which costs a repeat. An
// implementation that cannot answer says that there is no mark.
type Marks interface {
	// Marked answers the position at which the event was handled.
	Marked(ctx context.Context, eventID string) (events.Position, bool)
	// Mark records that the event at the position was handled.
	Mark(ctx context.Context, eventID string, at events.Position)
}

type memoryMarks struct {
	lru *lru.Cache[string, events.Position]
}

var _ Marks = memoryMarks{}

// NewMarks keeps the latest marks, up to size, in memory.
func NewMarks(size int) Marks {
	cache, err := lru.New[string, events.Position](size)
	if err != nil {
		panic(err) // a size below 1 is a mistake of the caller
	}
	return memoryMarks{cache}
}

func (m memoryMarks) Marked(_ context.Context, eventID string) (events.Position, bool) {
	return m.lru.Get(eventID)
}

func (m memoryMarks) Mark(_ context.Context, eventID string, at events.Position) {
	m.lru.Add(eventID, at)
}

// isRepeat reports whether the record repeats an event that was handled. The same position, or one before, is the record
// itself come again: whether its work was finished is not known, so it is handled again.
func isRepeat(ctx context.Context, marks Marks, r *events.Record) bool {
	at, ok := marks.Marked(ctx, r.EventID)
	return ok && at.Partition == r.Partition && at.Seq < r.Seq
}

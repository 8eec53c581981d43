package router

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
)

// Marks remember where a handler has handled an event. They are bounded and may be lost, which costs a repeat. An
// implementation that cannot answer says that there is no mark.
type Marks interface {
	// Marked answers for each event the position at which it was handled, zero if there is no mark.
	Marked(ctx context.Context, eventIDs ...string) []events.Position
	// Mark records that events were handled.
	Mark(ctx context.Context, marks ...Mark)
}

// Mark says that an event was handled at a position.
type Mark struct {
	EventID string
	At      events.Position
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

func (m memoryMarks) Marked(_ context.Context, eventIDs ...string) []events.Position {
	at := make([]events.Position, len(eventIDs))
	for i, id := range eventIDs {
		at[i], _ = m.lru.Get(id)
	}
	return at
}

func (m memoryMarks) Mark(_ context.Context, marks ...Mark) {
	for _, mark := range marks {
		m.lru.Add(mark.EventID, mark.At)
	}
}

// repeats reports whether the record repeats an event that was handled at the position. The same position, or one before,
// is the record itself come again: whether its work was finished is not known, so it is handled again.
func repeats(r *events.Record, handled events.Position) bool {
	return handled.Seq != 0 && handled.Partition == r.Partition && handled.Seq < r.Seq
}

package router

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
)

// Marks remember at which position a handler has handled an event. Their number is bounded and they may be lost; then a
// repeat is handled again. An implementation that is out of order reports no marks.
type Marks interface {
	// Marked returns, for each event, the position at which it was handled, or the zero position if there is no mark.
	Marked(ctx context.Context, eventIDs ...string) []events.Position
	// Mark notes that events were handled.
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

// NewMarks returns marks in memory that keep the latest ones, at most size of them.
func NewMarks(size int) Marks {
	cache, err := lru.New[string, events.Position](size)
	if err != nil {
		panic(err) // a size below 1 is the caller's mistake
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

// repeats reports whether the record repeats an event that was handled at the position. A record at the same position, or at
// one before, is no repeat but a redelivery: nobody knows whether its work was finished, so it is handled again.
func repeats(r *events.Record, handled events.Position) bool {
	return handled.Seq != 0 && handled.Partition == r.Partition && handled.Seq < r.Seq
}

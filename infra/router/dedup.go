package router

import (
	"context"
	"hash/maphash"
	"sync"

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

// memoryMarks keeps the marks in two maps. When the one is full it becomes the other one, whose marks are forgotten. The maps hold
// no pointers, because the garbage collector would follow them all in every cycle.
type memoryMarks struct {
	seeds [2]maphash.Seed
	full  int

	mu             sync.Mutex
	recent, before map[uint64]marked // by the first digest of the event id
}

// marked is where an event was handled. Two digests of 64 bits stand for the event's id, so that no two ids are taken for the
// same one. Nobody knows the seeds, so nobody can make ids with the same digests. Of two ids that share only the first digest
// one has no mark.
type marked struct {
	second uint64
	at     events.Position
}

// NewMarks returns marks in memory, at most size of them, and always the latest half of that.
func NewMarks(size int) Marks {
	return &memoryMarks{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, full: max(size/2, 1),
		recent: make(map[uint64]marked), before: make(map[uint64]marked),
	}
}

func (m *memoryMarks) Marked(_ context.Context, eventIDs ...string) []events.Position {
	at := make([]events.Position, len(eventIDs))
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, id := range eventIDs {
		first := maphash.String(m.seeds[0], id)
		found, ok := m.recent[first]
		if !ok {
			found, ok = m.before[first]
		}
		if ok && found.second == maphash.String(m.seeds[1], id) {
			at[i] = found.at
		}
	}
	return at
}

func (m *memoryMarks) Mark(_ context.Context, marks ...Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mark := range marks {
		if len(m.recent) >= m.full {
			m.recent, m.before = m.before, m.recent
			clear(m.recent)
		}
		m.recent[maphash.String(m.seeds[0], mark.EventID)] = marked{maphash.String(m.seeds[1], mark.EventID), mark.At}
	}
}

// repeats reports whether the record repeats an event that was handled at the position. A record at the same position, or at
// one before, is no repeat but a redelivery: nobody knows whether its work was finished, so it is handled again.
func repeats(r *events.Record, handled events.Position) bool {
	return handled.Seq != 0 && handled.Partition == r.Partition && handled.Seq < r.Seq
}

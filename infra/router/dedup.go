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
	recent, before map[digest]events.Position
}

// digest stands for an event id. Nobody knows the seeds, so nobody can make two ids with the same digest.
type digest [2]uint64

// NewMarks returns marks in memory, at most size of them, and always the latest half of that.
func NewMarks(size int) Marks {
	return &memoryMarks{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, full: max(size/2, 1),
		recent: make(map[digest]events.Position), before: make(map[digest]events.Position),
	}
}

func (m *memoryMarks) digest(id string) digest {
	return digest{maphash.String(m.seeds[0], id), maphash.String(m.seeds[1], id)}
}

func (m *memoryMarks) Marked(_ context.Context, eventIDs ...string) []events.Position {
	at := make([]events.Position, len(eventIDs))
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, id := range eventIDs {
		id := m.digest(id)
		pos, ok := m.recent[id]
		if !ok {
			pos = m.before[id]
		}
		at[i] = pos
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
		m.recent[m.digest(mark.EventID)] = mark.At
	}
}

// repeats reports whether the record repeats an event that was handled at the position. A record at the same position, or at
// one before, is no repeat but a redelivery: nobody knows whether its work was finished, so it is handled again.
func repeats(r *events.Record, handled events.Position) bool {
	return handled.Seq != 0 && handled.Partition == r.Partition && handled.Seq < r.Seq
}

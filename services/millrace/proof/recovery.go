package proof

import (
	"slices"
	"sync"
	"time"
)

// watches measure how long it takes after a fault until everybody had a message acknowledged, and had got one, that was sent
// after the fault. Methods of a nil pointer do nothing.
type watches struct {
	users []int64

	mu   sync.Mutex
	at   map[string]time.Time // when the messages were sent, by client_msg_id
	open []*watch
}

// watch is the measurement of one fault.
type watch struct {
	begin       time.Time
	unacked     map[int64]bool
	undelivered map[int64]bool
	acked       time.Duration // 0: not yet
	delivered   time.Duration
}

// start begins a measurement.
func (w *watches) start() *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &watch{begin: time.Now(), unacked: map[int64]bool{}, undelivered: map[int64]bool{}}
	for _, user := range w.users {
		m.unacked[user], m.undelivered[user] = true, true
	}
	w.open = append(w.open, m)
	return m
}

// of returns what was measured so far; 0: not yet.
func (w *watches) of(m *watch) (acked, delivered time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.acked, m.delivered
}

func (w *watches) sent(id string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == nil {
		w.at = map[string]time.Time{}
	}
	w.at[id] = time.Now()
}

func (w *watches) acked(user int64, id string) {
	w.tick(user, id, func(m *watch) (map[int64]bool, *time.Duration) { return m.unacked, &m.acked })
}

func (w *watches) received(user int64, id string) {
	w.tick(user, id, func(m *watch) (map[int64]bool, *time.Duration) { return m.undelivered, &m.delivered })
}

func (w *watches) tick(user int64, id string, part func(*watch) (map[int64]bool, *time.Duration)) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.open {
		waiting, took := part(m)
		if !waiting[user] || w.at[id].Before(m.begin) {
			continue
		}
		if delete(waiting, user); len(waiting) == 0 {
			*took = time.Since(m.begin)
		}
	}
	w.open = slices.DeleteFunc(w.open, func(m *watch) bool { return m.acked > 0 && m.delivered > 0 })
}

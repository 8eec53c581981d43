package notify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"millrace/events"
)

// memory is a [Store]. The suite of stores says what the real ones do.
type memory struct {
	mu         sync.Mutex
	err        error
	rows       map[string]*Notification
	browsers   map[int64][]Subscription
	members    map[int64][]int64
	seen       map[int64]events.Type
	read       map[int64]int64
	mutedUntil map[int64]int64
	hidden     map[int64]bool
	left       map[int64]bool
	messages   map[string]Message
	disabled   map[string]bool
}

func newMemory() *memory {
	return &memory{
		rows: map[string]*Notification{}, browsers: map[int64][]Subscription{}, members: map[int64][]int64{}, seen: map[int64]events.Type{},
		read: map[int64]int64{}, mutedUntil: map[int64]int64{}, hidden: map[int64]bool{}, left: map[int64]bool{}, messages: map[string]Message{},
		disabled: map[string]bool{},
	}
}

// with changes the store.
func (m *memory) with(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *memory) NoteMessages(_ context.Context, notes []Note, due time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, note := range notes {
		row := m.row(Notification{Note: Note{User: note.User, Conversation: note.Conversation}})
		if note.Seq <= row.Seq {
			continue
		}
		if row.Count == 0 {
			row.Due = due
		}
		row.Note, row.Count = note, row.Count+1
	}
	return m.err
}

func (m *memory) row(n Notification) *Notification {
	key := fmt.Sprint(n.User, n.Conversation, n.Target)
	if m.rows[key] == nil {
		m.rows[key] = &n
	}
	return m.rows[key]
}

func (m *memory) TakeNotifications(_ context.Context, now, until time.Time, limit int) (taken []Notification, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	for _, row := range slices.SortedFunc(maps.Values(m.rows), func(a, b *Notification) int { return a.Due.Compare(b.Due) }) {
		if row.Count > 0 && !row.Due.After(now) && len(taken) < limit {
			row.Due = until
			taken = append(taken, *row)
		}
	}
	return taken, nil
}

func (m *memory) SettleNotification(_ context.Context, n Notification, told int, next time.Time, repeats []Notification) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	for _, r := range repeats {
		lacking := r
		lacking.Count = 0
		m.row(lacking).Count += r.Count
	}
	row := m.row(n)
	if !row.Due.Equal(n.Due) {
		return nil
	}
	row.Count, row.Due, row.Attempts = row.Count-told, next, n.Attempts
	if told > 0 {
		row.Attempts = 0
	}
	return nil
}

func (m *memory) DropNotifications(context.Context, time.Time) error { return nil }

func (m *memory) Members(_ context.Context, group int64) ([]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[group], m.err
}

func (m *memory) Subscriptions(context.Context, []int64) (map[int64][]Subscription, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[int64][]Subscription, len(m.browsers))
	for user, browsers := range m.browsers {
		all[user] = slices.Clone(browsers)
	}
	return all, m.err
}

func (m *memory) DropSubscription(_ context.Context, user int64, endpoint string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.browsers[user])
	m.browsers[user] = slices.DeleteFunc(m.browsers[user], func(s Subscription) bool { return s.Endpoint == endpoint })
	return len(m.browsers[user]) < before, m.err
}

func (m *memory) LastSeen(context.Context, []int64) (map[int64]events.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := make(map[int64]events.Record)
	for user, kind := range m.seen {
		seen[user] = events.Record{Event: events.Event{Type: kind, User: user}}
	}
	return seen, m.err
}

func (m *memory) ReadMark(_ context.Context, user int64, _ string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read[user], m.err
}

func (m *memory) Settings(_ context.Context, user int64, _ string, _ int64) (int64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mutedUntil[user], m.hidden[user], m.err
}

func (m *memory) Sees(_ context.Context, user, _, _ int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.left[user], m.err
}

func (m *memory) Message(_ context.Context, _, id string) (Message, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	message, ok := m.messages[id]
	return message, ok, m.err
}

func (m *memory) WebhookDisabled(_ context.Context, name, _ string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disabled[name], m.err
}

func (m *memory) DisableWebhook(_ context.Context, name, _ string) error {
	m.with(func() { m.disabled[name] = true })
	return m.err
}

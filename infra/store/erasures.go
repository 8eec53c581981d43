package store

import (
	"slices"

	"millrace/events"
)

// Erasures says, by user who was erased and by partition, up to which position nothing is kept of what the user has written.
type Erasures map[int64]map[int32]int64

// Add adds that the user was erased in the partition up to the position.
func (e Erasures) Add(user int64, partition int32, seq int64) {
	if e[user] == nil {
		e[user] = make(map[int32]int64)
	}
	e[user][partition] = seq
}

// Cover reports whether what the user has written at the position is erased.
func (e Erasures) Cover(user int64, at events.Position) bool { return at.Seq <= e[user][at.Partition] }

// Authors returns, each once, the users of whom the records have something that an erasure empties.
func Authors(records []events.Record) []int64 {
	seen := make(map[int64]bool)
	var users []int64
	for i := range records {
		if user := author(&records[i]); user != 0 && !seen[user] {
			seen[user] = true
			users = append(users, user)
		}
	}
	return users
}

// author returns whose text, names or settings the record has, or 0. An edit has text too, but that is not kept if its message
// is erased, and the message lies before it.
func author(r *events.Record) int64 {
	switch {
	case r.Type == events.NewMessage && r.Message != nil:
		return r.Message.From
	case r.Type == events.GroupCreated || r.Type == events.GroupRenamed:
		return r.By
	case r.Type == events.ConversationSettings:
		return r.User
	}
	return 0
}

// Empty returns the records as they are to be saved: messages that are erased as recalled ones, names and settings without
// what they name and set. It does not change the records passed.
func (e Erasures) Empty(records []events.Record) []events.Record {
	if len(e) == 0 {
		return records
	}
	kept := records
	for i := range records {
		if !e.Cover(author(&records[i]), records[i].Position) {
			continue
		}
		if &kept[0] == &records[0] {
			kept = slices.Clone(records)
		}
		r := &kept[i]
		r.Name, r.Settings = "", events.Settings{}
		if r.Message != nil {
			m := *r.Message
			m.Content, m.Extra, m.ReplyTo, m.Mentions, m.Recalled = "", nil, "", nil, true
			r.Message = &m
		}
	}
	return kept
}

// ErasedAtOnce is how many messages, and how many changes, of a conversation one step of an erasure looks at.
const ErasedAtOnce = 500

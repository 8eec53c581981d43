package mongo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"millrace/infra/store"
)

// changesByID is the query for the changes of the conversations that have one of the event ids.
func (db *DB) changesByID(conversations, eventIDs map[string]bool) query {
	return query{of: db.changes, filter: doc(
		field("conversation", doc(field("$in", slices.Sorted(maps.Keys(conversations))))),
		field("event_id", doc(field("$in", slices.Sorted(maps.Keys(eventIDs))))),
	)}
}

// firstChanges returns, by conversation and event id, the positions at which the events of these records have already had
// their effects.
func (b *batch) firstChanges(ctx context.Context, records []int) (map[messageKey]int64, error) {
	first := make(map[messageKey]int64)
	if len(records) == 0 {
		return first, nil
	}
	conversations, ids := make(map[string]bool), make(map[string]bool)
	for _, i := range records {
		conversations[b.records[i].Conversation] = true
		ids[b.records[i].EventID] = true
	}
	found, err := find[change](ctx, b.changesByID(conversations, ids))
	if err != nil {
		return nil, fmt.Errorf("look up changes: %w", err)
	}
	for _, c := range found {
		key := messageKey{c.Conversation, c.EventID}
		if at, ok := first[key]; !ok || c.Seq < at {
			first[key] = c.Seq
		}
	}
	return first, nil
}

// SentAt returns the timestamps of those messages that are stored.
func (db *DB) SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error) {
	sent := make(map[store.MessageKey]int64)
	if len(messages) == 0 {
		return sent, nil
	}
	conversations, ids := make(map[string]bool), make(map[string]bool)
	for _, m := range messages {
		conversations[m.Conversation], ids[m.MessageID] = true, true
	}
	found, err := find[message](ctx, db.messagesByID(conversations, ids))
	if err != nil {
		return nil, fmt.Errorf("timestamps of messages: %w", err)
	}
	for _, m := range found {
		sent[store.MessageKey{Conversation: m.Conversation, MessageID: m.ID}] = m.Timestamp
	}
	return sent, nil
}

// ChangeSeq returns the seq at which an edit, a recall or a change of the group with the event id has had its effect on the
// conversation, 0 if none has.
func (db *DB) ChangeSeq(ctx context.Context, conversation, eventID string) (int64, error) {
	made, _, err := findOne[change](ctx, db.changesByID(map[string]bool{conversation: true}, map[string]bool{eventID: true}))
	if err != nil {
		return 0, fmt.Errorf("change of %s: %w", conversation, err)
	}
	return made.Seq, nil
}

// ReadMark returns the seq up to which the user has read the conversation, 0 if it has read nothing.
func (db *DB) ReadMark(ctx context.Context, user int64, conversation string) (int64, error) {
	p, _, err := findOne[participant](ctx, db.participantOf(user, conversation))
	if err != nil {
		return 0, fmt.Errorf("read mark of user %d in %s: %w", user, conversation, err)
	}
	return p.ReadSeq, nil
}

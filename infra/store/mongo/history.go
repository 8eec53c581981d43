package mongo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"millrace/events"
	"millrace/infra/store"
)

// page is the query for one range of (conversation, seq).
func (db *DB) page(conversation string, page store.Page) query {
	within := doc(field("$gt", page.After))
	if page.Before != 0 {
		within = append(within, field("$lt", page.Before))
	}
	order := 1
	if page.Newest {
		order = -1
	}
	return query{
		of:     db.messages,
		filter: doc(field("conversation", conversation), field("seq", within)),
		// The conversation is part of it, so that the order is visibly that of the index.
		sort:  doc(field("conversation", order), field("seq", order)),
		limit: page.Limit,
	}
}

func (db *DB) messagesByID(conversations, ids map[string]bool) query {
	return query{of: db.messages, filter: doc(
		field("_id", doc(field("$in", slices.Sorted(maps.Keys(ids))))),
		field("conversation", doc(field("$in", slices.Sorted(maps.Keys(conversations))))),
	)}
}

// History returns a page of the conversation in ascending seq, and whether there are more messages within the page's bounds
// in the direction asked for. A conversation that does not exist is empty.
func (db *DB) History(ctx context.Context, conversation string, page store.Page) ([]store.StoredMessage, bool, error) {
	limit := max(page.Limit, 0)
	page.Limit = limit + 1
	found, err := find[message](ctx, db.page(conversation, page))
	if err != nil {
		return nil, false, fmt.Errorf("history of %s: %w", conversation, err)
	}
	if page.AsOf != 0 {
		if err := db.asOf(ctx, conversation, found, page.AsOf, page.Reader); err != nil {
			return nil, false, err
		}
	}
	more := len(found) > limit
	if more {
		found = found[:limit]
	}
	if page.Newest {
		slices.Reverse(found)
	}
	var messages []store.StoredMessage
	for i := range found {
		messages = append(messages, found[i].stored())
	}
	return messages, more, nil
}

// Message returns a message of the conversation, or [store.ErrNotFound].
func (db *DB) Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error) {
	m, found, err := findOne[message](ctx, db.messagesByID(map[string]bool{conversation: true}, map[string]bool{messageID: true}))
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.StoredMessage{}, fmt.Errorf("message of %s: %w", conversation, err)
	}
	return m.stored(), nil
}

// stored returns the message as history shows it.
func (m *message) stored() store.StoredMessage {
	s := store.StoredMessage{
		Message: events.Message{
			MessageID: m.ID, ClientMsgID: m.ClientID, Conversation: m.Conversation, From: m.From,
			Content: m.Content, MessageType: m.Type, Timestamp: m.Timestamp, Recalled: m.Recalled,
		},
		Seq: m.Seq, EditedAt: m.EditedAt,
	}
	if !m.Recalled {
		s.ReplyTo, s.Mentions = m.ReplyTo, m.Mentions
	}
	if m.Extra != "" {
		s.Extra = events.Extra(m.Extra)
	}
	// Only canonical names are stored.
	if c, err := events.ParseConversation(m.Conversation); err == nil && c.GroupID == 0 {
		s.To = c.Low + c.High - m.From
	} else {
		s.GroupID = c.GroupID
	}
	return s
}

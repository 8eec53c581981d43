package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"

	"millrace/events"
	"millrace/infra/store"
)

const (
	messageColumns = `m.seq, m.id, m.client_id, m.sender, m.type, m.sent_at, m.recalled, m.edited_at, m.content`

	pageOf = `SELECT ` + messageColumns + ` FROM messages m
		WHERE m.conversation_id = (SELECT id FROM conversations WHERE name = ?) AND m.seq > ? AND m.seq < ?
		ORDER BY m.seq `
	oldestPage  = pageOf + `LIMIT ?`
	newestPage  = pageOf + `DESC LIMIT ?`
	messageByID = `SELECT ` + messageColumns + ` FROM message_ids i
		JOIN messages m ON m.conversation_id = i.conversation_id AND m.seq = i.seq
		WHERE i.id = ?2 AND i.conversation_id = (SELECT id FROM conversations WHERE name = ?1)`
)

// History answers a page of the conversation in ascending seq, and whether there is more within the page's bounds in the
// direction asked for. A conversation that does not exist is empty.
func (db *DB) History(ctx context.Context, conversation string, page store.Page) ([]store.StoredMessage, bool, error) {
	query, before, limit := oldestPage, page.Before, max(page.Limit, 0)
	if page.Newest {
		query = newestPage
	}
	if before == 0 {
		before = math.MaxInt64
	}
	var messages []store.StoredMessage
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) (err error) {
		messages, err = c.messages(ctx, conversation, query, conversation, page.After, before, limit+1)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("history of %s: %w", conversation, err)
	}
	more := len(messages) > limit
	if more {
		messages = messages[:limit]
	}
	if page.Newest {
		slices.Reverse(messages)
	}
	return messages, more, nil
}

// Message answers a message of the conversation, or [store.ErrNotFound].
func (db *DB) Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error) {
	var messages []store.StoredMessage
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) (err error) {
		messages, err = c.messages(ctx, conversation, messageByID, conversation, idValue(messageID))
		return err
	})
	if err == nil && len(messages) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.StoredMessage{}, fmt.Errorf("message of %s: %w", conversation, err)
	}
	return messages[0], nil
}

// messages runs a query for messageColumns of one conversation.
func (c *conn) messages(ctx context.Context, conversation, query string, args ...any) ([]store.StoredMessage, error) {
	parsed, err := events.ParseConversation(conversation)
	if err != nil {
		return nil, nil //nolint:nilerr // a name that is none has no messages
	}
	var messages []store.StoredMessage
	err = c.list(ctx, query, args, func(rows *sql.Rows) error {
		m := store.StoredMessage{Message: events.Message{Conversation: conversation, GroupID: parsed.GroupID}}
		err := rows.Scan(&m.Seq, (*id)(&m.MessageID), (*id)(&m.ClientMsgID), &m.From, &m.MessageType, &m.Timestamp,
			&m.Recalled, &m.EditedAt, &m.Content)
		if err != nil {
			return err
		}
		if parsed.GroupID == 0 {
			m.To = parsed.Low + parsed.High - m.From
		}
		messages = append(messages, m)
		return nil
	})
	return messages, err
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"millrace/events"
	"millrace/infra/store"
)

const (
	// now is later than every position.
	now = math.MaxInt64

	// Every query for messages returns those of the user ?2 as they are now, and all others as they were at the position ?1.
	messageColumns = `m.seq, m.id, m.client_id, m.sender, m.type, m.sent_at, iif(v.message_id IS NULL, m.recalled, 0),
		ifnull(v.edited_at, m.edited_at), ifnull(v.content, m.content),
		iif(v.message_id IS NULL, m.extra, v.extra), m.reply_to, m.mentions`
	versionThen = ` LEFT JOIN versions v ON v.message_id = m.id AND v.since_seq <= ?1 AND v.until_seq > ?1 AND m.sender <> ?2 `

	pageOf = `SELECT ` + messageColumns + ` FROM messages m` + versionThen + `
		WHERE m.conversation_id = (SELECT id FROM conversations WHERE name = ?3) AND m.seq > ?4 AND m.seq < ?5
		ORDER BY m.seq `
	oldestPage  = pageOf + `LIMIT ?6`
	newestPage  = pageOf + `DESC LIMIT ?6`
	messageByID = `SELECT ` + messageColumns + ` FROM messages m` + versionThen + `
		WHERE m.id = ?4 AND m.conversation_id = (SELECT id FROM conversations WHERE name = ?3)`
)

// History returns a page of the conversation in ascending seq, and whether there are more messages within the page's bounds
// in the direction asked for. A conversation that does not exist is empty.
func (db *DB) History(ctx context.Context, conversation string, page store.Page) ([]store.StoredMessage, bool, error) {
	query, before, limit := oldestPage, page.Before, max(page.Limit, 0)
	if page.Newest {
		query = newestPage
	}
	if before == 0 {
		before = math.MaxInt64
	}
	asOf := page.AsOf
	if asOf == 0 {
		asOf = now
	}
	var messages []store.StoredMessage
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) (err error) {
		messages, err = c.messages(ctx, conversation, query, asOf, page.Reader, conversation, page.After, before, limit+1)
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

// Message returns a message of the conversation, or [store.ErrNotFound].
func (db *DB) Message(ctx context.Context, conversation, messageID string) (store.StoredMessage, error) {
	var messages []store.StoredMessage
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) (err error) {
		messages, err = c.messages(ctx, conversation, messageByID, int64(now), 0, conversation, idValue(messageID))
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
		return nil, nil //nolint:nilerr // a name that is invalid has no messages
	}
	var messages []store.StoredMessage
	err = c.list(ctx, query, args, func(rows *sql.Rows) error {
		m := store.StoredMessage{Message: events.Message{Conversation: conversation, GroupID: parsed.GroupID}}
		var replyTo sql.Null[id]
		var mentions []byte
		err := rows.Scan(&m.Seq, (*id)(&m.MessageID), (*id)(&m.ClientMsgID), &m.From, &m.MessageType, &m.Timestamp,
			&m.Recalled, &m.EditedAt, &m.Content, (*[]byte)(&m.Extra), &replyTo, &mentions)
		if err != nil {
			return err
		}
		if !m.Recalled {
			m.ReplyTo = string(replyTo.V)
		}
		if !m.Recalled && mentions != nil {
			if err := json.Unmarshal(mentions, &m.Mentions); err != nil {
				return fmt.Errorf("mentions of the message at %d: %w", m.Seq, err)
			}
		}
		if parsed.GroupID == 0 {
			m.To = parsed.Low + parsed.High - m.From
		}
		messages = append(messages, m)
		return nil
	})
	return messages, err
}

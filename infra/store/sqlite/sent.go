package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"millrace/infra/store"
)

// askedAtOnce is for how many ids one statement asks. Fewer are filled up with NULL, which no id equals.
const askedAtOnce = 64

// sentAt names the ids one by one, which costs SQLite 40 % less than an array in JSON.
const (
	eight  = `?, ?, ?, ?, ?, ?, ?, ?`
	sentAt = `SELECT c.name, m.id, m.sent_at FROM messages m JOIN conversations c ON c.id = m.conversation_id
		WHERE m.id IN (` +
		eight + `, ` + eight + `, ` + eight + `, ` + eight + `, ` + eight + `, ` + eight + `, ` + eight + `, ` + eight + `)`
)

// SentAt returns the timestamps of those messages that are stored.
func (db *DB) SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error) {
	found := make(map[store.MessageKey]int64)
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		for some := range slices.Chunk(messages, askedAtOnce) {
			ids := make([]any, askedAtOnce)
			for i, m := range some {
				ids[i] = idValue(m.MessageID)
			}
			err := c.list(ctx, sentAt, ids, func(rows *sql.Rows) error {
				var key store.MessageKey
				var at int64
				if err := rows.Scan(&key.Conversation, (*id)(&key.MessageID), &at); err != nil {
					return err
				}
				found[key] = at
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("timestamps of messages: %w", err)
	}
	return found, nil
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"millrace/infra/store"
)

// sentAt takes one array of ids, so that it is one statement for any number of ids. An id that Millrace derived is in the
// array as the hexadecimal digits of its bits; see [id].
const sentAt = `SELECT c.name, i.id, m.sent_at
	FROM (SELECT iif(value ->> 0, unhex(value ->> 1), value ->> 1) AS id FROM json_each(?)) asked
	JOIN message_ids i ON i.id = asked.id
	JOIN messages m ON m.conversation_id = i.conversation_id AND m.seq = i.seq
	JOIN conversations c ON c.id = i.conversation_id`

// SentAt returns the timestamps of those messages that are stored.
func (db *DB) SentAt(ctx context.Context, messages []store.MessageKey) (map[store.MessageKey]int64, error) {
	asked := make([][2]any, len(messages))
	for i, m := range messages {
		if bits, own := idValue(m.MessageID).([]byte); own {
			asked[i] = [2]any{true, fmt.Sprintf("%x", bits)}
		} else {
			asked[i] = [2]any{false, m.MessageID}
		}
	}
	ids, err := json.Marshal(asked)
	if err != nil {
		return nil, fmt.Errorf("encode message ids: %w", err)
	}
	found := make(map[store.MessageKey]int64)
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, sentAt, []any{string(ids)}, func(rows *sql.Rows) error {
			var key store.MessageKey
			var at int64
			if err := rows.Scan(&key.Conversation, (*id)(&key.MessageID), &at); err != nil {
				return err
			}
			found[key] = at
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("timestamps of messages: %w", err)
	}
	return found, nil
}

package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

const (
	readersOfGroup = `SELECT u.user, u.read_seq FROM stays s
		JOIN user_conversations u ON u.user = s.user AND u.conversation_id = s.conversation_id
		WHERE s.conversation_id = (SELECT id FROM conversations WHERE name = ?1) AND s.left_seq = 0 AND u.read_seq >= ?2
		ORDER BY s.user LIMIT ?3`
	readersOfTwo = `SELECT user, read_seq FROM user_conversations
		WHERE user IN (?4, ?5) AND conversation_id = (SELECT id FROM conversations WHERE name = ?1) AND read_seq >= ?2
		ORDER BY user LIMIT ?3`
)

// Readers returns at most limit users, by ascending user, who have read the conversation at least up to seq: of a direct
// conversation both, of a group its present members.
func (db *DB) Readers(ctx context.Context, conversation string, seq int64, limit int) ([]store.Reader, error) {
	parsed, err := events.ParseConversation(conversation)
	if err != nil {
		return nil, err
	}
	query, args := readersOfGroup, []any{conversation, seq, limit}
	if parsed.GroupID == 0 {
		query, args = readersOfTwo, append(args, parsed.Low, parsed.High)
	}
	var readers []store.Reader
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, query, args, func(rows *sql.Rows) error {
			var r store.Reader
			if err := rows.Scan(&r.User, &r.Seq); err != nil {
				return err
			}
			readers = append(readers, r)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("readers of %s: %w", conversation, err)
	}
	return readers, nil
}

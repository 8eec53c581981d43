package sqlite

import (
	"context"
	"fmt"
)

const (
	changeByID = `SELECT 1 FROM changes
		WHERE conversation_id = (SELECT id FROM conversations WHERE name = ?) AND json_extract(event, '$.event_id') = ?`
	readMark = `SELECT read_seq FROM user_conversations
		WHERE user = ? AND conversation_id = (SELECT id FROM conversations WHERE name = ?)`
)

// HasChange reports whether an edit, a recall or a change of membership with the event id has had an effect on the
// conversation.
func (db *DB) HasChange(ctx context.Context, conversation, eventID string) (bool, error) {
	var one int
	var found bool
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) (err error) {
		found, err = c.get(ctx, changeByID, []any{conversation, eventID}, &one)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("change of %s: %w", conversation, err)
	}
	return found, nil
}

// ReadMark returns the seq up to which the user has read the conversation, 0 if it has read nothing.
func (db *DB) ReadMark(ctx context.Context, user int64, conversation string) (int64, error) {
	var seq int64
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.get(ctx, readMark, []any{user, conversation}, &seq)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read mark of user %d in %s: %w", user, conversation, err)
	}
	return seq, nil
}

package sqlite

import (
	"context"
	"fmt"
)

const (
	changeByID = `SELECT seq FROM changes
		WHERE conversation_id = (SELECT id FROM conversations WHERE name = ?) AND json_extract(event, '$.event_id') = ?
		ORDER BY seq LIMIT 1`
	readMark = `SELECT read_seq FROM user_conversations
		WHERE user = ? AND conversation_id = (SELECT id FROM conversations WHERE name = ?)`
)

// ChangeSeq returns the seq at which an edit, a recall or a change of the group with the event id has had its effect on the
// conversation, 0 if none has.
func (db *DB) ChangeSeq(ctx context.Context, conversation, eventID string) (int64, error) {
	var seq int64
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.get(ctx, changeByID, []any{conversation, eventID}, &seq)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("change of %s: %w", conversation, err)
	}
	return seq, nil
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

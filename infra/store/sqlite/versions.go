package sqlite

import (
	"context"
	"fmt"

	"millrace/events"
)

const (
	insertVersion = `INSERT INTO versions (message_id, since_seq, until_seq, edited_at, content, extra)
		SELECT id, change_seq, ?3, edited_at, content, extra FROM messages
		WHERE conversation_id = ?1 AND seq = ?2 AND change_seq < ?3 AND NOT recalled
		ON CONFLICT DO NOTHING`
	deleteVersions = `DELETE FROM versions WHERE message_id = ?1 AND NOT EXISTS (SELECT 1 FROM stays
		WHERE conversation_id = ?2 AND left_seq > 0 AND left_seq >= ?3 AND left_seq < ?4 AND joined_seq < ?3)`
)

// keepVersion keeps what a group message was before the record changes it, for users who left before. A recalled message is
// kept only if a user who has seen it has left.
func (b *batch) keepVersion(ctx context.Context, r *events.Record, conversation, seq int64) error {
	if c, err := events.ParseConversation(r.Conversation); err != nil || c.GroupID == 0 {
		return err
	}
	if err := b.exec(ctx, insertVersion, conversation, seq, r.Seq); err != nil {
		return fmt.Errorf("keep version: %w", err)
	}
	if r.Type == events.MessageEdited {
		return nil
	}
	if err := b.exec(ctx, deleteVersions, idValue(r.MessageID), conversation, seq, r.Seq); err != nil {
		return fmt.Errorf("delete versions: %w", err)
	}
	return nil
}

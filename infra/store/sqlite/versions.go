package sqlite

import (
	"context"
	"fmt"

	"millrace/events"
)

const (
	insertVersion = `INSERT INTO versions (message_id, since_seq, until_seq, edited_at, content)
		SELECT id, change_seq, ?3, edited_at, content FROM messages
		WHERE conversation_id = ?1 AND seq = ?2 AND change_seq < ?3 AND NOT recalled
		ON CONFLICT DO NOTHING`
	deleteVersions = `DELETE FROM versions WHERE message_id = ?1 AND NOT EXISTS (SELECT 1 FROM stays
		WHERE conversation_id = ?2 AND left_seq > 0 AND left_seq >= ?3 AND left_seq < ?4 AND joined_seq < ?3)`
)

// keepVersion keeps how a message of a group stands before the record changes it: who left before sees it so. A recall
// leaves nothing behind unless there is somebody who has seen the message and left.
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

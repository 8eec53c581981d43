package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"millrace/events"
)

const (
	changeSetting = `INSERT INTO settings (user, conversation_id, name, value, seq) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET value = excluded.value, seq = excluded.seq WHERE excluded.seq > seq`
	userSettings = `SELECT name, value, seq FROM settings WHERE user = ? AND conversation_id = ?`
)

// saveSettings creates a direct conversation if necessary, because a user may set something before the first message. Nobody's
// list shows it until then.
func (b *batch) saveSettings(ctx context.Context, r *events.Record) error {
	conversation, err := b.conversation(ctx, r.Conversation)
	if err != nil {
		return err
	}
	if conversation == 0 {
		if c, err := events.ParseConversation(r.Conversation); err != nil || c.GroupID != 0 {
			return err
		}
		if conversation, err = b.needConversation(ctx, r.Conversation, r.Partition); err != nil {
			return err
		}
	}
	change := func(name string, value any) {
		if err == nil {
			err = b.exec(ctx, changeSetting, r.User, conversation, name, value, r.Seq)
		}
	}
	if r.MutedUntil != nil {
		change("muted_until", *r.MutedUntil)
	}
	if r.Pinned != nil {
		change("pinned", *r.Pinned)
	}
	if r.Hidden != nil {
		change("hidden", *r.Hidden)
	}
	if err != nil {
		return fmt.Errorf("change settings: %w", err)
	}
	return nil
}

// settings adds what the user has set to a head that has its last message.
func (c *conn) settings(ctx context.Context, user int64, h *userHead) error {
	return c.list(ctx, userSettings, []any{user, h.conversation}, func(rows *sql.Rows) error {
		var name string
		var value, seq int64
		if err := rows.Scan(&name, &value, &seq); err != nil {
			return err
		}
		switch name {
		case "muted_until":
			h.MutedUntil = value
		case "pinned":
			h.Pinned = value != 0
		case "hidden":
			h.Hide(value != 0, seq)
		}
		return nil
	})
}

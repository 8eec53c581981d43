package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

const (
	changeSetting = `INSERT INTO settings (user, conversation_id, name, value, seq) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET value = excluded.value, seq = excluded.seq WHERE excluded.seq > seq`
	userSettings  = `SELECT name, value, seq FROM settings WHERE user = ? AND conversation_id = ?`
	settingsNamed = `SELECT s.name, value, seq FROM conversations c JOIN settings s ON s.user = ?1 AND s.conversation_id = c.id
		WHERE c.name = ?2`
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

// Settings returns what the user has set for the conversation, as it holds when the last message is at seq.
func (db *DB) Settings(ctx context.Context, user int64, conversation string, seq int64) (store.Head, error) {
	h := userHead{Head: store.Head{Last: &store.StoredMessage{Seq: seq}}}
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.listSettings(ctx, &h, settingsNamed, user, conversation)
	})
	if err != nil {
		return store.Head{}, fmt.Errorf("settings of user %d for %s: %w", user, conversation, err)
	}
	return h.Head, nil
}

// settings adds what the user has set to a head that has its last message.
func (c *conn) settings(ctx context.Context, user int64, h *userHead) error {
	return c.listSettings(ctx, h, userSettings, user, h.conversation)
}

func (c *conn) listSettings(ctx context.Context, h *userHead, query string, args ...any) error {
	return c.list(ctx, query, args, func(rows *sql.Rows) error {
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

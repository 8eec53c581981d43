package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"millrace/infra/store"
)

const (
	noteMessage = `INSERT INTO notifications (user, conversation, target, message_id, seq, sender, sent_at, count, attempts, due)
		VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, 1, 0, ?7)
		ON CONFLICT DO UPDATE SET message_id = ?3, seq = ?4, sender = ?5, sent_at = max(sent_at, ?6), count = count + 1,
			due = CASE count WHEN 0 THEN ?7 ELSE due END
		WHERE seq < ?4 AND message_id <> ?3`
	dueNotifications = `SELECT user, conversation, target, message_id, seq, sender, sent_at, count, attempts, due
		FROM notifications WHERE count > 0 AND due <= ? ORDER BY due LIMIT ?`
	takeNotification   = `UPDATE notifications SET due = ?4 WHERE user = ?1 AND conversation = ?2 AND target = ?3`
	settleNotification = `UPDATE notifications SET count = count - ?5, due = ?6, attempts = CASE ?5 WHEN 0 THEN ?7 ELSE 0 END
		WHERE user = ?1 AND conversation = ?2 AND target = ?3 AND due = ?4`
	dropTold    = `DELETE FROM notifications WHERE user = ? AND conversation = ? AND target = ? AND target <> '' AND count <= 0`
	repeatLater = `INSERT INTO notifications (user, conversation, target, message_id, seq, sender, sent_at, count, attempts, due)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
		ON CONFLICT DO UPDATE SET message_id = ?4, seq = ?5, sender = ?6, sent_at = ?7, count = count + ?8`
	dropNotifications = `DELETE FROM notifications WHERE count = 0 AND sent_at < ?`
)

const notificationsOfUsers = `
-- What users are to be told of their conversations, and for a while which messages they were told of.
CREATE TABLE notifications (
	user         INTEGER NOT NULL,
	conversation TEXT NOT NULL,
	target       TEXT NOT NULL,    -- where to tell it again; empty: everywhere
	message_id   TEXT NOT NULL,    -- of the latest message
	seq          INTEGER NOT NULL,
	sender       INTEGER NOT NULL,
	sent_at      INTEGER NOT NULL, -- Unix seconds
	count        INTEGER NOT NULL, -- messages to tell; 0: none
	attempts     INTEGER NOT NULL,
	due          INTEGER NOT NULL, -- Unix milliseconds
	PRIMARY KEY (user, conversation, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX due_notifications ON notifications (due) WHERE count > 0;
CREATE INDEX told_notifications ON notifications (sent_at) WHERE count = 0;
`

// NoteMessages counts each message for the user, unless one of its position or a later one was counted before, or it was the
// last one that was.
func (db *DB) NoteMessages(ctx context.Context, notes []store.Note, due time.Time) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for _, n := range notes {
			if err := c.exec(ctx, noteMessage, n.User, n.Conversation, n.MessageID, n.Seq, n.From, n.At, due.UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note messages: %w", err)
	}
	return nil
}

// TakeNotifications returns notifications that are due, the first one first, and keeps them from others until the time.
func (db *DB) TakeNotifications(ctx context.Context, now, until time.Time, limit int) (taken []store.Notification, err error) {
	err = db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		taken = nil
		err := c.list(ctx, dueNotifications, []any{now.UnixMilli(), limit}, func(rows *sql.Rows) error {
			var n store.Notification
			var due int64
			err := rows.Scan(&n.User, &n.Conversation, &n.Target, &n.MessageID, &n.Seq, &n.From, &n.At, &n.Count, &n.Attempts, &due)
			n.Due = time.UnixMilli(until.UnixMilli())
			taken = append(taken, n)
			return err
		})
		for _, n := range taken {
			if err == nil {
				err = c.exec(ctx, takeNotification, n.User, n.Conversation, n.Target, until.UnixMilli())
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take notifications: %w", err)
	}
	return taken, nil
}

// SettleNotification notes that so many of the messages of a notification that was taken were told; with 0 its attempts are kept.
// What is left is due at the time. What is to be repeated at single targets is added to what they lack already.
func (db *DB) SettleNotification(ctx context.Context, n store.Notification, told int, next time.Time, repeats []store.Notification) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for _, r := range repeats {
			err := c.exec(ctx, repeatLater, r.User, r.Conversation, r.Target, r.MessageID, r.Seq, r.From, r.At, r.Count, r.Attempts, r.Due.UnixMilli())
			if err != nil {
				return err
			}
		}
		err := c.exec(ctx, settleNotification, n.User, n.Conversation, n.Target, n.Due.UnixMilli(), told, next.UnixMilli(), n.Attempts)
		if err == nil {
			err = c.exec(ctx, dropTold, n.User, n.Conversation, n.Target)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("settle a notification of user %d: %w", n.User, err)
	}
	return nil
}

// DropNotifications forgets the messages before the time that were told.
func (db *DB) DropNotifications(ctx context.Context, before time.Time) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		return c.exec(ctx, dropNotifications, before.Unix())
	})
	if err != nil {
		return fmt.Errorf("drop notifications: %w", err)
	}
	return nil
}

package sqlite

import (
	"context"
	"fmt"
	"time"
)

const (
	findWebhook    = `SELECT 1 FROM disabled_webhooks WHERE name = ? AND url = ?`
	disableWebhook = `INSERT INTO disabled_webhooks (name, url, since) VALUES (?1, ?2, ?3)
		ON CONFLICT DO UPDATE SET url = ?2, since = ?3`
	enableWebhook = `DELETE FROM disabled_webhooks WHERE name = ?`
)

// WebhookDisabled reports whether the endpoint was disabled at this URL.
func (db *DB) WebhookDisabled(ctx context.Context, name, url string) (disabled bool, err error) {
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		var one int
		disabled, err = c.get(ctx, findWebhook, []any{name, url}, &one)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("webhook %s: %w", name, err)
	}
	return disabled, nil
}

// DisableWebhook disables the endpoint at this URL.
func (db *DB) DisableWebhook(ctx context.Context, name, url string) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		return c.exec(ctx, disableWebhook, name, url, time.Now().Unix())
	})
	if err != nil {
		return fmt.Errorf("disable webhook %s: %w", name, err)
	}
	return nil
}

// EnableWebhook enables the endpoint, and reports whether it was disabled.
func (db *DB) EnableWebhook(ctx context.Context, name string) (was bool, err error) {
	err = db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		n, err := c.change(ctx, enableWebhook, name)
		was = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("enable webhook %s: %w", name, err)
	}
	return was, nil
}

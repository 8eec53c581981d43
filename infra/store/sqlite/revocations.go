package sqlite

import (
	"context"
	"fmt"

	"millrace/events"
)

const (
	revokeTokens = `INSERT INTO revoked_tokens (user, issued_before) VALUES (?1, ?2)
		ON CONFLICT DO UPDATE SET issued_before = max(issued_before, ?2)`
	findRevoked = `SELECT issued_before FROM revoked_tokens WHERE user = ?`
)

// SaveRevocations keeps of each user the latest time before which its tokens are revoked.
func (db *DB) SaveRevocations(ctx context.Context, records []events.Record) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for _, r := range records {
			if err := c.exec(ctx, revokeTokens, r.User, r.Before); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// RevokedBefore returns the time in Unix seconds before which the user's tokens are revoked, or 0.
func (db *DB) RevokedBefore(ctx context.Context, user int64) (before int64, err error) {
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.get(ctx, findRevoked, []any{user}, &before)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("revoked tokens of user %d: %w", user, err)
	}
	return before, nil
}

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"millrace/infra/store"
)

const (
	saveSubscription = `INSERT INTO subscriptions (endpoint, user, p256dh, auth, since) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET user = ?2, p256dh = ?3, auth = ?4, since = ?5`
	dropOldSubscriptions = `DELETE FROM subscriptions WHERE user = ?1 AND endpoint IN
		(SELECT endpoint FROM subscriptions WHERE user = ?1 ORDER BY since DESC LIMIT -1 OFFSET ?2)`
	dropSubscription  = `DELETE FROM subscriptions WHERE endpoint = ? AND user = ?`
	userSubscriptions = `SELECT endpoint, p256dh, auth FROM subscriptions WHERE user = ? ORDER BY since`
)

// SaveSubscription makes the subscription the user's latest, whoever had it before, and drops the user's oldest ones.
func (db *DB) SaveSubscription(ctx context.Context, user int64, s store.Subscription) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		if err := c.exec(ctx, saveSubscription, s.Endpoint, user, s.P256dh, s.Auth, time.Now().UnixNano()); err != nil {
			return err
		}
		return c.exec(ctx, dropOldSubscriptions, user, store.MaxSubscriptions)
	})
	if err != nil {
		return fmt.Errorf("save a subscription of user %d: %w", user, err)
	}
	return nil
}

// DropSubscription drops the subscription with the endpoint if it is the user's, and reports whether it was.
func (db *DB) DropSubscription(ctx context.Context, user int64, endpoint string) (was bool, err error) {
	err = db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		n, err := c.change(ctx, dropSubscription, endpoint, user)
		was = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("drop a subscription of user %d: %w", user, err)
	}
	return was, nil
}

// Subscriptions returns the subscriptions of those of the users who have any, the oldest first.
func (db *DB) Subscriptions(ctx context.Context, users []int64) (map[int64][]store.Subscription, error) {
	found := make(map[int64][]store.Subscription)
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		for _, user := range users {
			if err := c.list(ctx, userSubscriptions, []any{user}, func(rows *sql.Rows) error {
				var s store.Subscription
				err := rows.Scan(&s.Endpoint, &s.P256dh, &s.Auth)
				found[user] = append(found[user], s)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("subscriptions: %w", err)
	}
	return found, nil
}

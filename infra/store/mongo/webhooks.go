package mongo

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// webhook is a document of disabled_webhooks: an endpoint that gets no events.
type webhook struct {
	Name  string `bson:"_id"`
	URL   string `bson:"url"`
	Since int64  `bson:"since"` // Unix seconds
}

// WebhookDisabled reports whether the endpoint was disabled at this URL.
func (db *DB) WebhookDisabled(ctx context.Context, name, url string) (bool, error) {
	_, disabled, err := findOne[webhook](ctx, query{of: db.webhooks, filter: doc(field("_id", name), field("url", url))})
	if err != nil {
		return false, fmt.Errorf("webhook %s: %w", name, err)
	}
	return disabled, nil
}

// DisableWebhook disables the endpoint at this URL.
func (db *DB) DisableWebhook(ctx context.Context, name, url string) error {
	_, err := db.webhooks.UpdateOne(ctx, doc(field("_id", name)),
		set(field("url", url), field("since", time.Now().Unix())), options.UpdateOne().SetUpsert(true))
	if err != nil {
		return fmt.Errorf("disable webhook %s: %w", name, err)
	}
	return nil
}

// EnableWebhook enables the endpoint, and reports whether it was disabled.
func (db *DB) EnableWebhook(ctx context.Context, name string) (was bool, err error) {
	result, err := db.webhooks.DeleteOne(ctx, doc(field("_id", name)))
	if err != nil {
		return false, fmt.Errorf("enable webhook %s: %w", name, err)
	}
	return result.DeletedCount > 0, nil
}

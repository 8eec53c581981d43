package mongo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/infra/store"
)

// subscription is a document of subscriptions. Its id is a hash of the endpoint, which may be long.
type subscription struct {
	ID       string `bson:"_id"`
	User     int64  `bson:"user"`
	Endpoint string `bson:"endpoint"`
	P256dh   string `bson:"p256dh"`
	Auth     string `bson:"auth"`
	Since    int64  `bson:"since"` // Unix nanoseconds
}

func subscriptionID(endpoint string) string {
	hash := sha256.Sum256([]byte(endpoint))
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

// SaveSubscription makes the subscription the user's latest, whoever had it before, and drops the user's oldest ones. If it
// fails after the first write the user has one too many until the next time.
func (db *DB) SaveSubscription(ctx context.Context, user int64, s store.Subscription) error {
	err := func() error {
		_, err := db.subscriptions.UpdateOne(ctx, doc(field("_id", subscriptionID(s.Endpoint))), set(
			field("user", user), field("endpoint", s.Endpoint), field("p256dh", s.P256dh), field("auth", s.Auth),
			field("since", time.Now().UnixNano())), options.UpdateOne().SetUpsert(true))
		if err != nil {
			return err
		}
		all, err := find[subscription](ctx, db.subscriptionsOf([]int64{user}))
		if err != nil || len(all) <= store.MaxSubscriptions {
			return err
		}
		var old []string
		for _, s := range all[:len(all)-store.MaxSubscriptions] {
			old = append(old, s.ID)
		}
		_, err = db.subscriptions.DeleteMany(ctx, doc(field("_id", doc(field("$in", old))), field("user", user)))
		return err
	}()
	if err != nil {
		return fmt.Errorf("save a subscription of user %d: %w", user, err)
	}
	return nil
}

// DropSubscription drops the subscription with the endpoint if it is the user's, and reports whether it was.
func (db *DB) DropSubscription(ctx context.Context, user int64, endpoint string) (was bool, err error) {
	result, err := db.subscriptions.DeleteOne(ctx, doc(field("_id", subscriptionID(endpoint)), field("user", user)))
	if err != nil {
		return false, fmt.Errorf("drop a subscription of user %d: %w", user, err)
	}
	return result.DeletedCount > 0, nil
}

// Subscriptions returns the subscriptions of those of the users who have any, the oldest first.
func (db *DB) Subscriptions(ctx context.Context, users []int64) (map[int64][]store.Subscription, error) {
	if len(users) == 0 {
		return nil, nil
	}
	all, err := find[subscription](ctx, db.subscriptionsOf(users))
	if err != nil {
		return nil, fmt.Errorf("subscriptions: %w", err)
	}
	found := make(map[int64][]store.Subscription)
	for _, s := range all {
		found[s.User] = append(found[s.User], store.Subscription{Endpoint: s.Endpoint, P256dh: s.P256dh, Auth: s.Auth})
	}
	return found, nil
}

// subscriptionsOf returns the query for the users' subscriptions, in ascending order of their time.
func (db *DB) subscriptionsOf(users []int64) query {
	return query{of: db.subscriptions, filter: doc(field("user", doc(field("$in", users)))), sort: bson.D{field("since", 1)}}
}

package mongo

import (
	"context"
	"fmt"

	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
)

// revocation is a document of revoked_tokens: the time before which a user's tokens are revoked.
type revocation struct {
	User   int64 `bson:"_id"`
	Before int64 `bson:"before"` // Unix seconds
}

// SaveRevocations keeps of each user the latest time before which its tokens are revoked.
func (db *DB) SaveRevocations(ctx context.Context, records []events.Record) error {
	latest := make(map[int64]int64)
	for _, r := range records {
		latest[r.User] = max(latest[r.User], r.Before)
	}
	var creates, updates []driver.WriteModel
	for user, before := range latest {
		creates = append(creates, create(doc(field("_id", user)), doc(field("_id", user), field("before", before))))
		updates = append(updates, update(doc(field("_id", user), field("before", doc(field("$lt", before)))), set(field("before", before))))
	}
	for _, models := range [][]driver.WriteModel{creates, updates} {
		if err := db.write(ctx, db.revocations, models); err != nil {
			return fmt.Errorf("revoke tokens: %w", err)
		}
	}
	return nil
}

// RevokedBefore returns the time in Unix seconds before which the user's tokens are revoked, or 0.
func (db *DB) RevokedBefore(ctx context.Context, user int64) (int64, error) {
	found, _, err := findOne[revocation](ctx, db.revocationOf(user))
	if err != nil {
		return 0, fmt.Errorf("revoked tokens of user %d: %w", user, err)
	}
	return found.Before, nil
}

func (db *DB) revocationOf(user int64) query {
	return query{of: db.revocations, filter: doc(field("_id", user))}
}

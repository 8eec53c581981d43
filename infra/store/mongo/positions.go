package mongo

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
)

// Stored answers per partition the position up to which every record has been saved. It is never ahead of what the other
// methods see.
func (db *DB) Stored(ctx context.Context) (map[int32]int64, error) {
	found, err := find[struct {
		Partition int32 `bson:"_id"`
		Seq       int64 `bson:"seq"`
	}](ctx, query{of: db.positions, filter: bson.D{}})
	if err != nil {
		return nil, fmt.Errorf("stored positions: %w", err)
	}
	stored := make(map[int32]int64, len(found))
	for _, p := range found {
		stored[p.Partition] = p.Seq
	}
	return stored, nil
}

// topic is a document of topics.
type topic struct {
	Name  string `bson:"_id"`
	ID    string `bson:"id"`
	Epoch int64  `bson:"epoch"`
}

// Epoch answers the epoch of the topic's positions: 0 for the first id that was ever seen, one more whenever the id is
// another than the last one. Of several that start at once one changes it; the others read what it made of it.
func (db *DB) Epoch(ctx context.Context, name, topicID string) (int64, error) {
	for {
		next, done, err := db.tryEpoch(ctx, name, topicID)
		if err != nil {
			return 0, fmt.Errorf("epoch of topic %s: %w", name, err)
		}
		if done {
			return next, nil
		}
	}
}

// tryEpoch compares and sets. It is not done if another did so in between.
func (db *DB) tryEpoch(ctx context.Context, name, topicID string) (epoch int64, done bool, err error) {
	last, found, err := findOne[topic](ctx, query{of: db.topics, filter: doc(field("_id", name))})
	switch {
	case err != nil:
		return 0, false, err
	case !found:
		_, err = db.topics.InsertOne(ctx, topic{Name: name, ID: topicID})
		if driver.IsDuplicateKeyError(err) {
			return 0, false, nil
		}
		return 0, err == nil, err
	case last.ID == topicID:
		return last.Epoch, true, nil
	}
	seen := doc(field("_id", name), field("id", last.ID), field("epoch", last.Epoch))
	changed, err := db.topics.UpdateOne(ctx, seen, set(field("id", topicID), field("epoch", last.Epoch+1)))
	if err != nil {
		return 0, false, err
	}
	return last.Epoch + 1, changed.MatchedCount == 1, nil
}

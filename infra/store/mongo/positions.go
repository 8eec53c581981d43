package mongo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
)

// Stored returns, by partition, the position up to which every record was saved or otherwise done with. It is never ahead of
// what the other methods return.
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

// Advance notes that everything up to the positions is done with, including records that are not to be stored.
func (db *DB) Advance(ctx context.Context, positions map[int32]int64) error {
	if err := db.advance(ctx, positions); err != nil {
		return fmt.Errorf("advance positions: %w", err)
	}
	return nil
}

func (db *DB) advance(ctx context.Context, positions map[int32]int64) error {
	var models []driver.WriteModel
	for _, partition := range slices.Sorted(maps.Keys(positions)) {
		models = append(models, update(doc(field("_id", partition)),
			doc(field("$max", doc(field("seq", positions[partition]))))).SetUpsert(true))
	}
	return db.write(ctx, db.positions, models)
}

// topic is a document of topics. Each version of a topic's epochs has a document, so that of several processes that change
// them at once only one succeeds. A document from before there were versions has the topic's name as its id.
type topic struct {
	ID      string       `bson:"_id"`
	Name    string       `bson:"topic"`
	TopicID string       `bson:"id"`
	First   int64        `bson:"epoch"`
	Cuts    []events.Cut `bson:"cuts"`
	Version int64        `bson:"version"`
	Changed int64        `bson:"changed"`
}

// Epochs returns the topic's epochs, or the zero value if none were ever set.
func (db *DB) Epochs(ctx context.Context, name string) (events.Epochs, error) {
	latest, found, err := findOne[topic](ctx, query{
		of: db.topics, filter: doc(field("topic", name)), sort: doc(field("version", -1)),
	})
	if err == nil && !found {
		latest, _, err = findOne[topic](ctx, query{of: db.topics, filter: doc(field("_id", name))})
	}
	if err != nil {
		return events.Epochs{}, fmt.Errorf("epochs of topic %s: %w", name, err)
	}
	return events.Epochs{
		TopicID: latest.TopicID, First: latest.First, Cuts: latest.Cuts, Version: latest.Version, Changed: latest.Changed,
	}, nil
}

// SetEpochs sets the topic's epochs if their version follows the one that is stored, and reports whether it did.
func (db *DB) SetEpochs(ctx context.Context, name string, e events.Epochs) (set bool, err error) {
	_, err = db.topics.InsertOne(ctx, topic{
		ID: fmt.Sprintf("%s@%d", name, e.Version), Name: name,
		TopicID: e.TopicID, First: e.First, Cuts: e.Cuts, Version: e.Version, Changed: e.Changed,
	})
	switch {
	case driver.IsDuplicateKeyError(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("set epochs of topic %s: %w", name, err)
	}
	return true, nil
}

package mongo

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/events"
)

// progress is a document of progress: up to where the work of a handler, but for storage, is in the store.
type progress struct {
	ID        string `bson:"_id"`
	Handler   string `bson:"handler"`
	Partition int32  `bson:"partition"`
	Seq       int64  `bson:"seq"`
}

// Progress returns, by partition, the position up to which the handler is done with everything.
func (db *DB) Progress(ctx context.Context, handler string) (map[int32]int64, error) {
	found, err := find[progress](ctx, db.progressOf(handler))
	if err != nil {
		return nil, fmt.Errorf("progress of %s: %w", handler, err)
	}
	by := make(map[int32]int64, len(found))
	for _, p := range found {
		by[p.Partition] = p.Seq
	}
	return by, nil
}

func (db *DB) progressOf(handler string) query {
	return query{of: db.progress, filter: doc(field("handler", handler))}
}

// AdvanceProgress notes that the handler is done with everything up to the position.
func (db *DB) AdvanceProgress(ctx context.Context, handler string, done events.Position) error {
	change := append(doc(field("$set", doc(field("handler", handler), field("partition", done.Partition)))),
		field("$max", doc(field("seq", done.Seq))))
	id := doc(field("_id", fmt.Sprintf("%s %d", handler, done.Partition)))
	if _, err := db.progress.UpdateOne(ctx, id, change, options.UpdateOne().SetUpsert(true)); err != nil {
		return fmt.Errorf("advance progress of %s: %w", handler, err)
	}
	return nil
}

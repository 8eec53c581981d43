package mongo

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// field returns a condition on, or a value for, one field.
func field(name string, value any) bson.E { return bson.E{Key: name, Value: value} }

// doc returns a document with these fields.
func doc(fields ...bson.E) bson.D { return fields }

// query is a find whose parts are accessible, so that tests can ask the server how it would run it.
type query struct {
	of     *driver.Collection
	filter bson.D
	sort   bson.D
	limit  int // 0: no limit
}

// find returns all documents of the query.
func find[T any](ctx context.Context, q query) ([]T, error) {
	opts := options.Find()
	if q.sort != nil {
		opts.SetSort(q.sort)
	}
	if q.limit > 0 {
		opts.SetLimit(int64(q.limit))
	}
	cursor, err := q.of.Find(ctx, q.filter, opts)
	if err != nil {
		return nil, err
	}
	var found []T
	err = cursor.All(ctx, &found)
	return found, err
}

// findOne returns the first document of the query and whether there is one.
func findOne[T any](ctx context.Context, q query) (T, bool, error) {
	q.limit = 1
	found, err := find[T](ctx, q)
	if err != nil || len(found) == 0 {
		var none T
		return none, false, err
	}
	return found[0], true, nil
}

// update returns a model that changes the only document that the filter matches.
func update(filter, change bson.D) *driver.UpdateOneModel {
	return driver.NewUpdateOneModel().SetFilter(filter).SetUpdate(change)
}

// create returns a model that inserts the document unless the filter matches one. The filter has the document's id and its
// shard key.
func create(filter, document bson.D) *driver.UpdateOneModel {
	return update(filter, doc(field("$setOnInsert", document))).SetUpsert(true)
}

func set(fields ...bson.E) bson.D { return doc(field("$set", doc(fields...))) }

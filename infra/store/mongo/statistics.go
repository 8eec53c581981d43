package mongo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/events"
	"millrace/infra/store"
)

// tally is a document of tallies: the messages of a partition in a bucket, or those of a conversation, all of which are in one
// partition. It carries the position up to which it has counted, so that each document by itself counts every message once,
// and a version, so that of several processes that change it at once only one succeeds.
type tally struct {
	ID           string  `bson:"_id"`
	Series       string  `bson:"series"`
	Span         int64   `bson:"span"`
	Start        int64   `bson:"start"`
	Conversation string  `bson:"conversation"` // empty: of the whole partition
	Seq          int64   `bson:"seq"`
	Replays      []int64 `bson:"replays,omitempty"` // the positions of replays that it has counted
	Version      int64   `bson:"version"`
	Messages     int64   `bson:"messages"`
	Within2      int64   `bson:"within_2"`
	Within5      int64   `bson:"within_5"`
	Within60     int64   `bson:"within_60"`
}

// count counts the message unless the tally has counted it before.
func (t *tally) count(e *store.Entry) {
	switch {
	case slices.Contains(t.Replays, e.Seq):
		return
	case e.Replay:
		t.Replays = append(t.Replays, e.Seq)
	case e.Seq <= t.Seq:
		return
	default:
		t.Seq = e.Seq
	}
	t.Messages++
	t.Within2 += e.Within[0]
	t.Within5 += e.Within[1]
	t.Within60 += e.Within[2]
}

// activeUser is a document of active_users: a user who has sent a message in a bucket.
type activeUser struct {
	ID     string `bson:"_id"`
	Series string `bson:"series"`
	Span   int64  `bson:"span"`
	Start  int64  `bson:"start"`
}

var errChangedMeanwhile = errors.New("another process has counted meanwhile")

// CountMessages counts those of the partition's records that the series has not counted yet. If it fails, some of its
// documents have counted and others have not; the same records counted again make all of them right.
func (db *DB) CountMessages(ctx context.Context, series string, records []events.Record, now time.Time) error {
	entries := store.Entries(records, now)
	if len(entries) == 0 {
		return nil
	}
	if err := errors.Join(db.countUsers(ctx, series, entries), db.countTallies(ctx, series, entries)); err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	return nil
}

func (db *DB) countUsers(ctx context.Context, series string, entries []store.Entry) error {
	users := make(map[string]driver.WriteModel)
	for _, e := range entries {
		u := activeUser{fmt.Sprintf("%s %d %d %d", series, e.Span, e.Start, e.Message.From), series, e.Span, e.Start}
		users[u.ID] = update(doc(field("_id", u.ID)), doc(field("$setOnInsert", u))).SetUpsert(true)
	}
	return exceptDuplicates(db.write(ctx, db.activeUsers, slices.Collect(maps.Values(users))))
}

func (db *DB) countTallies(ctx context.Context, series string, entries []store.Entry) error {
	tallies := make(map[string]*tally)
	of := make(map[string][]*store.Entry)
	for i := range entries {
		e := &entries[i]
		for id, conversation := range map[string]string{
			fmt.Sprintf("%s %d %d p%d", series, e.Span, e.Start, e.Partition):           "",
			fmt.Sprintf("%s %d %d %s", series, e.Span, e.Start, e.Message.Conversation): e.Message.Conversation,
		} {
			tallies[id] = &tally{ID: id, Series: series, Span: e.Span, Start: e.Start, Conversation: conversation}
			of[id] = append(of[id], e)
		}
	}
	found, err := find[tally](ctx, query{of: db.tallies, filter: doc(field("_id", doc(field("$in", slices.Sorted(maps.Keys(tallies))))))})
	if err != nil {
		return err
	}
	for i := range found {
		tallies[found[i].ID] = &found[i]
	}
	var models []driver.WriteModel
	for id, t := range tallies {
		before := t.Messages
		for _, e := range of[id] {
			t.count(e)
		}
		if t.Messages == before {
			continue
		}
		t.Version++
		if t.Version == 1 {
			models = append(models, driver.NewInsertOneModel().SetDocument(t))
		} else {
			models = append(models, driver.NewReplaceOneModel().SetFilter(doc(field("_id", id), field("version", t.Version-1))).SetReplacement(t))
		}
	}
	if len(models) == 0 {
		return nil
	}
	result, err := db.tallies.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	switch {
	case err != nil:
		return err
	case result.InsertedCount+result.MatchedCount != int64(len(models)):
		return errChangedMeanwhile
	}
	return nil
}

// DropBuckets deletes what is no longer kept of the series.
func (db *DB) DropBuckets(ctx context.Context, series string, now time.Time) error {
	for _, span := range store.Spans() {
		for _, c := range []*driver.Collection{db.tallies, db.activeUsers} {
			filter := doc(field("series", series), field("span", span.Seconds), field("start", doc(field("$lt", span.Oldest(now)))))
			if _, err := c.DeleteMany(ctx, filter); err != nil {
				return fmt.Errorf("drop buckets: %w", err)
			}
		}
	}
	return nil
}

// Buckets returns the buckets of the series that begin at the time or later, in ascending order.
func (db *DB) Buckets(ctx context.Context, series string, span store.Span, since int64) ([]store.Bucket, error) {
	tallies, err := find[tally](ctx, query{of: db.tallies, filter: append(bucketsSince(series, span, since), field("conversation", ""))})
	if err != nil {
		return nil, fmt.Errorf("buckets: %w", err)
	}
	conversations, err := db.numberByStart(ctx, db.tallies, append(bucketsSince(series, span, since), ofConversations()))
	if err != nil {
		return nil, fmt.Errorf("buckets: %w", err)
	}
	users, err := db.numberByStart(ctx, db.activeUsers, bucketsSince(series, span, since))
	if err != nil {
		return nil, fmt.Errorf("buckets: %w", err)
	}
	buckets := make(map[int64]store.Bucket)
	for _, t := range tallies {
		b := buckets[t.Start]
		b.Start, b.Users, b.Conversations = t.Start, users[t.Start], conversations[t.Start]
		b.Messages += t.Messages
		b.Within[0] += t.Within2
		b.Within[1] += t.Within5
		b.Within[2] += t.Within60
		buckets[t.Start] = b
	}
	var all []store.Bucket
	for _, start := range slices.Sorted(maps.Keys(buckets)) {
		all = append(all, buckets[start])
	}
	return all, nil
}

// numberByStart returns how many documents there are of each bucket.
func (db *DB) numberByStart(ctx context.Context, of *driver.Collection, match bson.D) (map[int64]int64, error) {
	found, err := aggregate[struct {
		Start int64 `bson:"_id"`
		N     int64 `bson:"n"`
	}](ctx, of, doc(field("$match", match)), doc(field("$group", doc(field("_id", "$start"), field("n", doc(field("$sum", 1)))))))
	if err != nil {
		return nil, err
	}
	numbers := make(map[int64]int64, len(found))
	for _, f := range found {
		numbers[f.Start] = f.N
	}
	return numbers, nil
}

// Busiest returns the conversations with the most messages in the buckets that begin at the time or later.
func (db *DB) Busiest(ctx context.Context, series string, span store.Span, since int64, limit int) ([]store.Busy, error) {
	found, err := aggregate[struct {
		Conversation string `bson:"_id"`
		Messages     int64  `bson:"messages"`
	}](ctx, db.tallies,
		doc(field("$match", append(bucketsSince(series, span, since), ofConversations()))),
		doc(field("$group", doc(field("_id", "$conversation"), field("messages", doc(field("$sum", "$messages")))))),
		doc(field("$sort", doc(field("messages", -1), field("_id", 1)))),
		doc(field("$limit", limit)))
	if err != nil {
		return nil, fmt.Errorf("busiest conversations: %w", err)
	}
	var all []store.Busy
	for _, b := range found {
		all = append(all, store.Busy{Conversation: b.Conversation, Messages: b.Messages})
	}
	return all, nil
}

func bucketsSince(series string, span store.Span, since int64) bson.D {
	return doc(field("series", series), field("span", span.Seconds), field("start", doc(field("$gte", since))))
}

// ofConversations selects the tallies that are not of a whole partition.
func ofConversations() bson.E { return field("conversation", doc(field("$gt", ""))) }

// aggregate returns all documents that the stages make of the collection.
func aggregate[T any](ctx context.Context, of *driver.Collection, stages ...bson.D) ([]T, error) {
	cursor, err := of.Aggregate(ctx, stages)
	if err != nil {
		return nil, err
	}
	var found []T
	err = cursor.All(ctx, &found)
	return found, err
}

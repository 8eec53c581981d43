package mongo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
	"millrace/infra/store"
)

// erasure is a document of erasures: in a partition, up to which position nothing is kept of what a user has written who was
// erased.
type erasure struct {
	User      int64 `bson:"user"`
	Partition int32 `bson:"partition"`
	Seq       int64 `bson:"seq"`
}

// SaveErasure notes that what the user has written up to these positions is erased. Whatever a batch saves that begins after
// this lacks it.
func (db *DB) SaveErasure(ctx context.Context, user int64, through map[int32]int64) error {
	var models []driver.WriteModel
	for _, partition := range slices.Sorted(maps.Keys(through)) {
		id := strconv.FormatInt(user, 10) + " " + strconv.FormatInt(int64(partition), 10)
		models = append(models, update(doc(field("_id", id), field("user", user)), doc(
			field("$setOnInsert", doc(field("partition", partition))), field("$max", doc(field("seq", through[partition]))),
		)).SetUpsert(true))
	}
	if err := db.write(ctx, db.erasures, models); err != nil {
		return fmt.Errorf("save erasure of user %d: %w", user, err)
	}
	return nil
}

func (db *DB) erasuresOf(users []int64) query {
	return query{of: db.erasures, filter: doc(field("user", doc(field("$in", users))))}
}

// erased returns the erasures of those of the users who were erased.
func (db *DB) erased(ctx context.Context, users []int64) (store.Erasures, error) {
	if len(users) == 0 {
		return nil, nil
	}
	found, err := find[erasure](ctx, db.erasuresOf(users))
	if err != nil {
		return nil, fmt.Errorf("erasures: %w", err)
	}
	erasures := make(store.Erasures)
	for _, e := range found {
		erasures.Add(e.User, e.Partition, e.Seq)
	}
	return erasures, nil
}

// dropErased drops from the batch what users have written who were erased.
func (b *batch) dropErased(ctx context.Context) error {
	erasures, err := b.erased(ctx, store.Authors(b.records))
	if err == nil {
		b.records = erasures.Empty(b.records)
	}
	return err
}

// recallErased marks those of the messages as recalled that an erasure covers but has not reached yet, so that no version of
// them is kept which it would miss.
func (b *batch) recallErased(ctx context.Context, messages map[messageKey]message) error {
	var authors []int64
	for _, m := range messages {
		authors = append(authors, m.From)
	}
	erasures, err := b.erased(ctx, authors)
	if err != nil || len(erasures) == 0 {
		return err
	}
	for i := range b.records {
		r := &b.records[i]
		key := messageKey{r.Conversation, r.MessageID}
		if m, ok := messages[key]; ok && erasures.Cover(m.From, events.Position{Partition: r.Partition, Seq: m.Seq}) {
			m.Recalled = true
			messages[key] = m
		}
	}
	return nil
}

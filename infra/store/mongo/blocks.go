package mongo

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/infra/store"
)

func blockID(pair store.Pair) string { return fmt.Sprintf("%d %d", pair.By, pair.User) }

func (db *DB) saveBlocks(ctx context.Context, blocks map[store.Pair]store.Block) error {
	var creates, updates []driver.WriteModel
	for pair, b := range blocks {
		id := field("_id", blockID(pair))
		state := []bson.E{field("by", pair.By), field("user", pair.User), field("seq", b.Seq), field("blocked", b.Blocked)}
		creates = append(creates, create(doc(id), doc(state...)))
		updates = append(updates, update(doc(id, field("seq", doc(field("$lt", b.Seq)))), set(state...)))
	}
	for _, models := range [][]driver.WriteModel{creates, updates} {
		if err := db.write(ctx, db.blocks, models); err != nil {
			return fmt.Errorf("save blocks: %w", err)
		}
	}
	return nil
}

// Blocks returns those of the pairs that were ever blocked, as they are now.
func (db *DB) Blocks(ctx context.Context, pairs []store.Pair) (map[store.Pair]store.Block, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	found, err := find[block](ctx, db.blocksOf(pairs))
	if err != nil {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	blocks := make(map[store.Pair]store.Block, len(found))
	for _, b := range found {
		blocks[store.Pair{By: b.By, User: b.User}] = store.Block{Seq: b.Seq, Blocked: b.Blocked}
	}
	return blocks, nil
}

func (db *DB) blocksOf(pairs []store.Pair) query {
	ids := make([]string, len(pairs))
	for i, pair := range pairs {
		ids[i] = blockID(pair)
	}
	return query{of: db.blocks, filter: doc(field("_id", doc(field("$in", ids))))}
}

// Blocked returns at most limit of the users whom the user blocks, in ascending order.
func (db *DB) Blocked(ctx context.Context, by int64, limit int) ([]int64, error) {
	found, err := find[block](ctx, db.blockedBy(by, limit))
	if err != nil {
		return nil, fmt.Errorf("blocked users: %w", err)
	}
	var users []int64
	for _, b := range found {
		users = append(users, b.User)
	}
	return users, nil
}

func (db *DB) blockedBy(by int64, limit int) query {
	return query{
		of: db.blocks, filter: doc(field("by", by), field("blocked", true)), sort: doc(field("user", 1)), limit: limit,
	}
}

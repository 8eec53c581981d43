package sqlite

import (
	"context"
	"fmt"

	"millrace/infra/store"
)

const (
	saveBlock = `INSERT INTO blocks (blocker, user, seq, blocked) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT DO UPDATE SET seq = ?3, blocked = ?4 WHERE seq < ?3`
	findBlock      = `SELECT seq, blocked FROM blocks WHERE blocker = ? AND user = ?`
	blockedUsersOf = `SELECT user FROM blocks WHERE blocker = ? AND blocked ORDER BY user LIMIT ?`
)

// Blocks returns those of the pairs that were ever blocked, as they are now.
func (db *DB) Blocks(ctx context.Context, pairs []store.Pair) (map[store.Pair]store.Block, error) {
	blocks := make(map[store.Pair]store.Block)
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		for _, pair := range pairs {
			var b store.Block
			found, err := c.get(ctx, findBlock, []any{pair.By, pair.User}, &b.Seq, &b.Blocked)
			if err != nil {
				return err
			}
			if found {
				blocks[pair] = b
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	return blocks, nil
}

// Blocked returns at most limit of the users whom the user blocks, in ascending order.
func (db *DB) Blocked(ctx context.Context, by int64, limit int) ([]int64, error) {
	users, err := column[int64](ctx, db.readers, blockedUsersOf, by, limit)
	if err != nil {
		return nil, fmt.Errorf("blocked users: %w", err)
	}
	return users, nil
}

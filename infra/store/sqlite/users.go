package sqlite

import (
	"context"
	"fmt"
	"slices"

	"millrace/events"
)

const (
	saveUser = `INSERT INTO users (id, partition, seq, online, seen_at) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET partition = ?2, seq = ?3, online = ?4, seen_at = ?5 WHERE seq < ?3`
	findUser    = `SELECT partition, seq, online, seen_at FROM users WHERE id = ?`
	onlineUsers = `SELECT id FROM users WHERE online AND partition = ?`
)

// SaveUsers keeps the record with the highest position: of each user whether it is online, and of each pair whether it is
// blocked.
func (db *DB) SaveUsers(ctx context.Context, records []events.Record) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) (err error) {
		for _, r := range records {
			switch r.Type {
			case events.UserOnline, events.UserOffline:
				err = c.exec(ctx, saveUser, r.User, r.Partition, r.Seq, r.Type == events.UserOnline, r.Timestamp)
			case events.UserBlocked, events.UserUnblocked:
				err = c.exec(ctx, saveBlock, r.By, r.User, r.Seq, r.Type == events.UserBlocked)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save users: %w", err)
	}
	return nil
}

// LastSeen returns the latest record of those of the users who have one.
func (db *DB) LastSeen(ctx context.Context, users []int64) (map[int64]events.Record, error) {
	seen := make(map[int64]events.Record, len(users))
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		for _, user := range users {
			r := events.Record{Event: events.Event{Type: events.UserOffline, User: user}}
			var online bool
			found, err := c.get(ctx, findUser, []any{user}, &r.Partition, &r.Seq, &online, &r.Timestamp)
			if err != nil {
				return err
			}
			if online {
				r.Type = events.UserOnline
			}
			if found {
				seen[user] = r
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("users seen last: %w", err)
	}
	return seen, nil
}

// OnlineUsers returns, in ascending order, the users whose latest record lies in the partition and is a user_online.
func (db *DB) OnlineUsers(ctx context.Context, partition int32) ([]int64, error) {
	users, err := column[int64](ctx, db.readers, onlineUsers, partition)
	if err != nil {
		return nil, fmt.Errorf("users online: %w", err)
	}
	slices.Sort(users)
	return users, nil
}

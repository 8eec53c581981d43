package mongo

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
	"millrace/infra/store"
)

// SaveUsers keeps the record with the highest position: of each user whether it is online, and of each pair whether it is
// blocked.
func (db *DB) SaveUsers(ctx context.Context, records []events.Record) error {
	latest := make(map[int64]events.Record)
	blocks := make(map[store.Pair]store.Block)
	for _, r := range records {
		switch r.Type {
		case events.UserOnline, events.UserOffline:
			if r.Seq > latest[r.User].Seq {
				latest[r.User] = r
			}
		case events.UserBlocked, events.UserUnblocked:
			if pair := (store.Pair{By: r.By, User: r.User}); r.Seq > blocks[pair].Seq {
				blocks[pair] = store.Block{Seq: r.Seq, Blocked: r.Type == events.UserBlocked}
			}
		}
	}
	if err := db.saveBlocks(ctx, blocks); err != nil {
		return err
	}
	var creates, updates []driver.WriteModel
	for id, r := range latest {
		state := []bson.E{
			field("partition", r.Partition), field("seq", r.Seq), field("online", r.Type == events.UserOnline), field("seen_at", r.Timestamp),
		}
		creates = append(creates, create(doc(field("_id", id)), doc(state...)))
		updates = append(updates, update(doc(field("_id", id), field("seq", doc(field("$lt", r.Seq)))), set(state...)))
	}
	for _, models := range [][]driver.WriteModel{creates, updates} {
		if err := db.write(ctx, db.users, models); err != nil {
			return fmt.Errorf("save users: %w", err)
		}
	}
	return nil
}

// LastSeen returns the latest record of those of the users who have one.
func (db *DB) LastSeen(ctx context.Context, users []int64) (map[int64]events.Record, error) {
	if len(users) == 0 {
		return nil, nil
	}
	found, err := find[user](ctx, db.usersByID(users))
	if err != nil {
		return nil, fmt.Errorf("users seen last: %w", err)
	}
	seen := make(map[int64]events.Record, len(found))
	for _, u := range found {
		r := events.Record{
			Event:    events.Event{Type: events.UserOffline, User: u.ID, Timestamp: u.SeenAt},
			Position: events.Position{Partition: u.Partition, Seq: u.Seq},
		}
		if u.Online {
			r.Type = events.UserOnline
		}
		seen[u.ID] = r
	}
	return seen, nil
}

func (db *DB) usersByID(users []int64) query {
	return query{of: db.users, filter: doc(field("_id", doc(field("$in", users))))}
}

// OnlineUsers returns, in ascending order, the users whose latest record lies in the partition and is a user_online.
func (db *DB) OnlineUsers(ctx context.Context, partition int32) ([]int64, error) {
	found, err := find[user](ctx, db.usersOnline(partition))
	if err != nil {
		return nil, fmt.Errorf("users online: %w", err)
	}
	var users []int64
	for _, u := range found {
		users = append(users, u.ID)
	}
	slices.Sort(users)
	return users, nil
}

func (db *DB) usersOnline(partition int32) query {
	return query{of: db.users, filter: doc(field("partition", partition), field("online", true))}
}

package mongo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"millrace/events"
	"millrace/infra/store"
)

// checkSenders refuses group messages of users who may not write to the group. It looks up all senders of the batch at once,
// and looks for the groups only of those senders that were never in them.
func (b *batch) checkSenders(ctx context.Context) error {
	ids := make(map[string]bool)
	users := make(map[int64]bool)
	var records []int
	_ = b.each(func(i int, r *events.Record) error {
		if r.Message.GroupID != 0 {
			records = append(records, i)
			ids[senderID(r)], users[r.Message.From] = true, true
		}
		return nil
	}, events.NewMessage)
	if len(records) == 0 {
		return nil
	}
	found, err := find[participant](ctx, b.participantsByID(users, ids))
	if err != nil {
		return fmt.Errorf("find senders: %w", err)
	}
	stays := make(map[string][]store.Membership, len(found))
	for _, p := range found {
		stays[p.ID] = p.memberships()
	}
	for _, i := range records {
		r := &b.records[i]
		of := stays[senderID(r)]
		exists := len(of) > 0
		if !exists {
			group, _, err := findOne[conversation](ctx, b.conversationByName(r.Message.Conversation))
			if err != nil {
				return fmt.Errorf("find group: %w", err)
			}
			exists = group.Created != 0
		}
		b.results[i] = store.CheckSender(r, exists, of)
	}
	return nil
}

func senderID(r *events.Record) string { return participantID(r.Message.From, r.Message.Conversation) }

func (db *DB) participantsByID(users map[int64]bool, ids map[string]bool) query {
	return query{of: db.participants, filter: doc(
		field("_id", doc(field("$in", slices.Sorted(maps.Keys(ids))))), field("user", doc(field("$in", slices.Sorted(maps.Keys(users))))),
	)}
}

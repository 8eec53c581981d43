package mongo

import (
	"context"
	"fmt"

	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
	"millrace/infra/store"
)

// saveSettings creates the participant of a direct conversation if necessary, because a user may set something before the first
// message. Nobody's list shows the conversation until then. Each write has no effect if it was overtaken, so the writes need no
// order.
func (b *batch) saveSettings(ctx context.Context) error {
	var participants, changes []driver.WriteModel
	_ = b.each(func(_ int, r *events.Record) error {
		there, none := b.newParticipant(r.User, r.Conversation, r.Partition, 0)
		if c, err := events.ParseConversation(r.Conversation); err == nil && c.GroupID == 0 {
			participants = append(participants, create(there, none))
		}
		change := func(name string, value int64) {
			name = "settings." + name
			older := append(there[:len(there):len(there)], field(name+".seq", doc(field("$not", doc(field("$gte", r.Seq))))))
			changes = append(changes, update(older, set(field(name, setting{value, r.Seq}))))
		}
		if r.MutedUntil != nil {
			change("muted_until", *r.MutedUntil)
		}
		if r.Pinned != nil {
			change("pinned", number(*r.Pinned))
		}
		if r.Hidden != nil {
			change("hidden", number(*r.Hidden))
		}
		return nil
	}, events.ConversationSettings)
	if err := exceptDuplicates(b.write(ctx, b.participants, participants)); err != nil {
		return err
	}
	return b.write(ctx, b.participants, changes)
}

func number(set bool) int64 {
	if set {
		return 1
	}
	return 0
}

// Settings returns what the user has set for the conversation, as it holds when the last message is at seq.
func (db *DB) Settings(ctx context.Context, user int64, conversation string, seq int64) (store.Head, error) {
	h := store.Head{Last: &store.StoredMessage{Seq: seq}}
	p, _, err := findOne[participant](ctx, db.participantOf(user, conversation))
	if err != nil {
		return store.Head{}, fmt.Errorf("settings of user %d for %s: %w", user, conversation, err)
	}
	p.settings(&h)
	return h, nil
}

// settings adds what the participant has set to a head that has its last message.
func (p *participant) settings(h *store.Head) {
	h.MutedUntil, h.Pinned = p.Settings["muted_until"].Value, p.Settings["pinned"].Value != 0
	h.Hide(p.Settings["hidden"].Value != 0, p.Settings["hidden"].Seq)
}

package mongo

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
)

// windowsAtOnce bounds how many ranges one query asks for.
const windowsAtOnce = 100

// Missed answers the events in the ranges that concern the user, ascending within each partition: all of its direct
// conversations, and of a group those from its joining to its leaving, both included. Read marks are not among them. A
// message that was recalled since comes recalled and without content, an edited one as it is now. Where there are more
// than limit it answers limit of them, no matter which.
func (db *DB) Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error) {
	if limit <= 0 {
		return nil, nil
	}
	windows, err := db.changedWithin(ctx, user, ranges)
	if err != nil {
		return nil, fmt.Errorf("missed by user %d: %w", user, err)
	}
	var records []events.Record
	for some := range slices.Chunk(windows, windowsAtOnce) {
		for _, read := range []func(context.Context, []window, int) ([]events.Record, error){db.messagesWithin, db.changesWithin} {
			if len(records) >= limit {
				break
			}
			found, err := read(ctx, some, limit-len(records))
			if err != nil {
				return nil, fmt.Errorf("missed by user %d: %w", user, err)
			}
			records = append(records, found...)
		}
	}
	slices.SortFunc(records, func(a, b events.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Seq, b.Seq))
	})
	return records, nil
}

// window is a part of a conversation's positions.
type window struct {
	conversation string
	events.Range
}

// changedWithin answers the parts of the user's conversations in which something may have happened within the ranges.
func (db *DB) changedWithin(ctx context.Context, user int64, ranges []events.Range) ([]window, error) {
	byPartition := make(map[int32][]events.Range, len(ranges))
	for _, r := range ranges {
		byPartition[r.Partition] = append(byPartition[r.Partition], r)
	}
	participants, err := find[participant](ctx, db.participantsOf(user))
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*participant, len(participants))
	var names []string
	for i := range participants {
		if p := &participants[i]; byPartition[p.Partition] != nil {
			byName[p.Conversation] = p
			names = append(names, p.Conversation)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	conversations, err := find[conversation](ctx, db.conversationsByName(names))
	if err != nil {
		return nil, err
	}
	var windows []window
	for _, c := range conversations {
		for _, r := range byPartition[c.Partition] {
			if c.LastSeq <= r.After {
				continue
			}
			for _, stayed := range byName[c.Name].within(r) {
				windows = append(windows, window{c.Name, stayed})
			}
		}
	}
	return windows, nil
}

func (db *DB) conversationsByName(names []string) query {
	return query{of: db.conversations, filter: doc(field("_id", doc(field("$in", names))))}
}

// within answers the parts of the range in which the user was a member; of a direct conversation it is all.
func (p *participant) within(r events.Range) []events.Range {
	if p.Changed == 0 {
		return []events.Range{r}
	}
	var parts []events.Range
	for _, s := range p.stays() {
		if s.Left == 0 {
			s.Left = math.MaxInt64
		}
		part := events.Range{Partition: r.Partition, After: max(r.After, s.Joined-1), Through: min(r.Through, s.Left)}
		if part.After < part.Through {
			parts = append(parts, part)
		}
	}
	return parts
}

// anyOf asks for what lies in any of the windows, each one range of (conversation, seq), in no order.
func anyOf(c *driver.Collection, windows []window, limit int) query {
	ranges := make([]bson.D, len(windows))
	for i, w := range windows {
		ranges[i] = doc(field("conversation", w.conversation),
			field("seq", doc(field("$gt", w.After), field("$lte", w.Through))))
	}
	return query{of: c, filter: doc(field("$or", ranges)), limit: limit}
}

func (db *DB) messagesWithin(ctx context.Context, windows []window, limit int) ([]events.Record, error) {
	found, err := find[message](ctx, anyOf(db.messages, windows, limit))
	if err != nil {
		return nil, err
	}
	partitions := make(map[string]int32, len(windows))
	for _, w := range windows {
		partitions[w.conversation] = w.Partition
	}
	records := make([]events.Record, len(found))
	for i := range found {
		m := found[i].stored()
		records[i] = events.Record{
			Event:    events.Event{Type: events.NewMessage, Message: &m.Message, EventID: m.MessageID, Timestamp: m.Timestamp},
			Position: events.Position{Partition: partitions[m.Conversation], Seq: m.Seq},
		}
	}
	return records, nil
}

// changesWithin leaves out edits of recalled messages, and asks for more in their place.
func (db *DB) changesWithin(ctx context.Context, windows []window, limit int) ([]events.Record, error) {
	for asked := limit; ; asked *= 2 {
		found, err := find[change](ctx, anyOf(db.changes, windows, asked))
		if err != nil {
			return nil, err
		}
		records, err := db.asTheyAreNow(ctx, found)
		if err != nil {
			return nil, err
		}
		if len(found) < asked || len(records) >= limit {
			return records[:min(len(records), limit)], nil
		}
	}
}

// asTheyAreNow shows an edit with the message as it is now, or not at all once that was recalled.
func (db *DB) asTheyAreNow(ctx context.Context, changes []change) ([]events.Record, error) {
	conversations, ids := make(map[string]bool), make(map[string]bool)
	for _, c := range changes {
		if c.MessageID != "" {
			conversations[c.Conversation], ids[c.MessageID] = true, true
		}
	}
	messages := make(map[messageKey]message, len(ids))
	if len(ids) > 0 {
		found, err := find[message](ctx, db.messagesByID(conversations, ids))
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			messages[messageKey{m.Conversation, m.ID}] = m
		}
	}
	var records []events.Record
	for _, c := range changes {
		r := events.Record{Position: events.Position{Partition: c.Partition, Seq: c.Seq}}
		if err := json.Unmarshal([]byte(c.Event), &r.Event); err != nil {
			return nil, fmt.Errorf("change at %s: %w", r.Position, err)
		}
		m, ok := messages[messageKey{c.Conversation, c.MessageID}]
		if r.Type == events.MessageEdited && (!ok || m.Recalled) {
			continue
		}
		r.Content, r.MessageSeq = m.Content, m.Seq
		records = append(records, r)
	}
	return records, nil
}

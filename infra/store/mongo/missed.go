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

// Missed returns the events in the ranges that concern the user, ascending within each partition: those of its direct
// conversations, and of a group those from its joining to its leaving, both included, without changes of messages from before
// the joining. It leaves out read marks. Messages and their edits come as the messages are now or, in a stay that has ended,
// as they were at its end; a recalled message comes without content. If there are more than limit events, it returns any
// limit of them.
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
		for _, read := range []func(context.Context, int64, []window, int) ([]events.Record, error){db.messagesWithin, db.changesWithin} {
			if len(records) >= limit {
				break
			}
			found, err := read(ctx, user, some, limit-len(records))
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

// window is a part of a conversation's positions that the user may see.
type window struct {
	conversation string
	events.Range
	joined int64 // the user learns nothing about messages up to here
	left   int64 // messages are returned as they were here; 0: as they are now
}

func (w *window) has(conversation string, seq int64) bool {
	return w.conversation == conversation && w.After < seq && seq <= w.Through
}

// changedWithin returns the parts of the user's conversations in which something may have happened within the ranges.
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
			windows = append(windows, byName[c.Name].within(c.Name, r)...)
		}
	}
	return windows, nil
}

func (db *DB) conversationsByName(names []string) query {
	return query{of: db.conversations, filter: doc(field("_id", doc(field("$in", names))))}
}

// within returns the parts of the range in which the user was a member, or all of it for a direct conversation.
func (p *participant) within(conversation string, r events.Range) []window {
	if p.Changed == 0 {
		return []window{{conversation: conversation, Range: r}}
	}
	var parts []window
	for _, s := range p.stays() {
		through := s.Left
		if s.Left == 0 {
			through = math.MaxInt64
		}
		part := events.Range{Partition: r.Partition, After: max(r.After, s.Joined-1), Through: min(r.Through, through)}
		if part.After < part.Through {
			parts = append(parts, window{conversation, part, s.Joined, s.Left})
		}
	}
	return parts
}

// anyOf is the query for what lies in any of the windows, each one range of (conversation, seq), in no order.
func anyOf(c *driver.Collection, windows []window, limit int) query {
	ranges := make([]bson.D, len(windows))
	for i, w := range windows {
		ranges[i] = doc(field("conversation", w.conversation),
			field("seq", doc(field("$gt", w.After), field("$lte", w.Through))))
	}
	return query{of: c, filter: doc(field("$or", ranges)), limit: limit}
}

func (db *DB) messagesWithin(ctx context.Context, user int64, windows []window, limit int) ([]events.Record, error) {
	found, err := find[message](ctx, anyOf(db.messages, windows, limit))
	if err != nil {
		return nil, err
	}
	var records []events.Record
	for _, w := range windows {
		var mine []message
		for _, m := range found {
			if w.has(m.Conversation, m.Seq) {
				mine = append(mine, m)
			}
		}
		if err := db.atEndOf(ctx, w, user, mine); err != nil {
			return nil, err
		}
		for i := range mine {
			m := mine[i].stored()
			records = append(records, events.Record{
				Event:    events.Event{Type: events.NewMessage, Message: &m.Message, EventID: m.MessageID, Timestamp: m.Timestamp},
				Position: events.Position{Partition: w.Partition, Seq: m.Seq},
			})
		}
	}
	return records, nil
}

// atEndOf changes the messages to what they were at the end of the window's stay, if the stay has ended.
func (db *DB) atEndOf(ctx context.Context, w window, user int64, messages []message) error {
	if w.left == 0 {
		return nil
	}
	return db.asOf(ctx, w.conversation, messages, w.left, user)
}

// changesWithin returns the changes in the windows that the user is told of. For changes that it leaves out it reads more.
func (db *DB) changesWithin(ctx context.Context, user int64, windows []window, limit int) ([]events.Record, error) {
	for asked := limit; ; asked *= 2 {
		found, err := find[change](ctx, anyOf(db.changes, windows, asked))
		if err != nil {
			return nil, err
		}
		messages, err := db.messagesOf(ctx, found)
		if err != nil {
			return nil, err
		}
		var records []events.Record
		for _, w := range windows {
			told, err := db.told(ctx, user, w, found, messages)
			if err != nil {
				return nil, err
			}
			records = append(records, told...)
		}
		if len(found) < asked || len(records) >= limit {
			return records[:min(len(records), limit)], nil
		}
	}
}

// messagesOf returns the messages that the changes are about.
func (db *DB) messagesOf(ctx context.Context, changes []change) ([]message, error) {
	conversations, ids := make(map[string]bool), make(map[string]bool)
	for _, c := range changes {
		if c.MessageID != "" {
			conversations[c.Conversation], ids[c.MessageID] = true, true
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return find[message](ctx, db.messagesByID(conversations, ids))
}

// told returns the changes in the window as the user is told of them. An edit comes with the message as it was in the end, or
// not at all if the message was recalled. Nothing comes about a message from before the stay, and no renaming whose name is
// erased.
func (db *DB) told(ctx context.Context, user int64, w window, changes []change, messages []message) ([]events.Record, error) {
	var mine []message
	for _, m := range messages {
		if m.Conversation == w.conversation && m.Seq > w.joined {
			mine = append(mine, m)
		}
	}
	if err := db.atEndOf(ctx, w, user, mine); err != nil {
		return nil, err
	}
	byID := make(map[string]message, len(mine))
	for _, m := range mine {
		byID[m.ID] = m
	}
	var records []events.Record
	for _, c := range changes {
		m, known := byID[c.MessageID]
		if !w.has(c.Conversation, c.Seq) || c.MessageID != "" && !known {
			continue
		}
		r := events.Record{Position: events.Position{Partition: c.Partition, Seq: c.Seq}}
		if err := json.Unmarshal([]byte(c.Event), &r.Event); err != nil {
			return nil, fmt.Errorf("change at %s: %w", r.Position, err)
		}
		erasedName := r.Type == events.GroupRenamed && r.Name == ""
		if erasedName || r.Type == events.MessageEdited && m.Recalled {
			continue
		}
		about := m.stored()
		r.Content, r.Extra, r.MessageSeq = about.Content, about.Extra, about.Seq
		records = append(records, r)
	}
	return records, nil
}

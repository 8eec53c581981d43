package sqlite

import (
	"context"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

const (
	findConversation   = `SELECT id FROM conversations WHERE name = ?`
	insertConversation = `INSERT INTO conversations (name, partition, last_seq, active_at) VALUES (?, ?, 0, 0)`
	insertParticipants = `INSERT INTO user_conversations (user, conversation_id, read_seq)
		SELECT value, ?2, 0 FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING`
	advanceHead = `UPDATE conversations
		SET active_at = iif(?2 > last_seq, ?3, active_at), last_seq = max(last_seq, ?4) WHERE id = ?1`
	advancePosition = `INSERT INTO positions (partition, seq) VALUES (?, ?)
		ON CONFLICT DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq`
)

// SaveBatch saves the records, which [events.Decode] has checked, and returns an error or nil for each. One transaction
// stores them and advances the stored position of every partition to the highest among them. Saving a record again changes
// nothing. A permanent error says that the record can never be stored; all records without one are stored. If the transaction
// fails, every record has its error and nothing is stored.
func (db *DB) SaveBatch(ctx context.Context, records []events.Record) []error {
	results := make([]error, len(records))
	var created map[string]int64
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		b := &batch{
			conn: c, committed: db.conversations.Get,
			found: make(map[string]int64), heads: make(map[int64]*head), positions: make(map[int32]int64),
			members: make(map[member][]store.Membership),
		}
		created = b.found
		erasures, err := c.erasures(ctx, records)
		if err != nil {
			return fmt.Errorf("erasures: %w", err)
		}
		kept := erasures.Empty(records)
		for i := range kept {
			err := b.save(ctx, &kept[i])
			if err != nil && !events.IsPermanent(err) {
				return fmt.Errorf("%s at %s: %w", records[i].Type, records[i].Position, err)
			}
			results[i] = err
		}
		return b.finish(ctx)
	})
	if err != nil {
		err = fmt.Errorf("save batch: %w", err)
		for i := range results {
			results[i] = err
		}
		return results
	}
	for name, id := range created {
		db.conversations.Add(name, id)
	}
	return results
}

// batch is what one transaction has collected so far.
type batch struct {
	*conn
	committed func(name string) (int64, bool)
	found     map[string]int64 // conversations that were unknown before; some may exist only in this transaction
	heads     map[int64]*head
	positions map[int32]int64
	members   map[member][]store.Membership
}

// head is what the batch changes in the head of a conversation.
type head struct {
	last     int64 // seq of its latest event
	active   int64 // seq of its latest message or change of membership
	activeAt int64
}

func (b *batch) save(ctx context.Context, r *events.Record) error {
	if r.Partition < 0 || r.Seq < 1 {
		return unstorable("position %s", r.Position)
	}
	b.positions[r.Partition] = max(b.positions[r.Partition], r.Seq)
	switch r.Type {
	case events.NewMessage:
		return b.saveMessage(ctx, r)
	case events.MessageEdited, events.MessageRecalled:
		return b.saveChange(ctx, r)
	case events.MessageRead:
		return b.saveReadMark(ctx, r)
	case events.ConversationSettings:
		return b.saveSettings(ctx, r)
	case events.GroupCreated:
		return b.saveGroup(ctx, r)
	case events.MemberJoined, events.MemberLeft, events.GroupDissolved, events.GroupRenamed, events.MemberRole, events.MemberMuted:
		return b.saveMembership(ctx, r)
	}
	return nil
}

// finish writes what is written once for the whole batch.
func (b *batch) finish(ctx context.Context) error {
	for id, h := range b.heads {
		if err := b.exec(ctx, advanceHead, id, h.active, h.activeAt, h.last); err != nil {
			return fmt.Errorf("advance head: %w", err)
		}
	}
	for partition, seq := range b.positions {
		if err := b.exec(ctx, advancePosition, partition, seq); err != nil {
			return fmt.Errorf("advance position: %w", err)
		}
	}
	return nil
}

// touch notes that the conversation has an event at seq.
func (b *batch) touch(conversation, seq int64) *head {
	h := b.heads[conversation]
	if h == nil {
		h = &head{}
		b.heads[conversation] = h
	}
	h.last = max(h.last, seq)
	return h
}

// activate is like touch, for an event that moves the conversation to the top of its users' lists.
func (b *batch) activate(conversation, seq, at int64) {
	if h := b.touch(conversation, seq); seq > h.active {
		h.active, h.activeAt = seq, at
	}
}

// conversation returns the id of the conversation with the name, or 0 if there is none.
func (b *batch) conversation(ctx context.Context, name string) (int64, error) {
	if id, ok := b.committed(name); ok {
		return id, nil
	}
	if id, ok := b.found[name]; ok {
		return id, nil
	}
	var id int64
	found, err := b.get(ctx, findConversation, []any{name}, &id)
	if err != nil {
		return 0, fmt.Errorf("find conversation: %w", err)
	}
	if found {
		b.found[name] = id
	}
	return id, nil
}

// needConversation returns the id of the conversation, which it creates if necessary: a direct one with both users.
func (b *batch) needConversation(ctx context.Context, name string, partition int32) (int64, error) {
	id, err := b.conversation(ctx, name)
	if err != nil || id != 0 {
		return id, err
	}
	parsed, err := events.ParseConversation(name)
	if err != nil {
		return 0, err
	}
	if id, err = b.insert(ctx, insertConversation, name, partition); err != nil {
		return 0, fmt.Errorf("create conversation: %w", err)
	}
	b.found[name] = id
	if parsed.GroupID != 0 {
		return id, nil
	}
	if err := b.exec(ctx, insertParticipants, fmt.Sprintf("[%d,%d]", parsed.Low, parsed.High), id); err != nil {
		return 0, fmt.Errorf("add users to conversation: %w", err)
	}
	return id, nil
}

// unstorable returns the error of a record that can never be stored.
func unstorable(format string, args ...any) error {
	return events.Permanent(fmt.Errorf("cannot be stored: "+format, args...))
}

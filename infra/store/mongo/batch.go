package mongo

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/events"
)

// SaveBatch saves the records, which [events.Decode] has checked, and returns an error or nil for each. Saving a record again
// changes nothing. A permanent error says that the record can never be stored; all records without one are stored. After a
// transient error the later records of the partition have it too and the stored position stays before them: all of them must
// be saved again.
func (db *DB) SaveBatch(ctx context.Context, records []events.Record) []error {
	b := &batch{
		DB: db, records: records, results: make([]error, len(records)),
		partitions: make(map[string]int32), heads: make(map[string]*head),
	}
	if err := b.save(ctx); err != nil {
		err = fmt.Errorf("save batch: %w", err)
		for i := range b.results {
			if !events.IsPermanent(b.results[i]) {
				b.results[i] = err
			}
		}
	}
	return b.results
}

// batch is one call of SaveBatch.
type batch struct {
	*DB
	records    []events.Record
	results    []error
	partitions map[string]int32 // of the conversations touched
	heads      map[string]*head
}

// head is what the batch changes in the head of a conversation.
type head struct {
	last     int64 // seq of its latest event
	active   int64 // seq of its latest message or change of membership
	activeAt int64
}

// save runs the steps in an order in which each needs those before it.
func (b *batch) save(ctx context.Context) error {
	for i := range b.records {
		b.results[i] = check(&b.records[i])
	}
	if err := b.dropErased(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"membership", b.saveMemberships},
		{"senders", b.checkSenders},
		{"messages", b.saveMessages},
		{"conversations", b.createConversations},
		{"edits and recalls", b.saveChanges},
		{"read marks", b.saveReadMarks},
		{"settings", b.saveSettings},
		{"heads", b.saveHeads},
		{"positions", b.savePositions},
	} {
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// check returns a permanent error if no document can hold the record.
func check(r *events.Record) error {
	if r.Partition < 0 || r.Seq < 1 {
		return unstorable("position %s", r.Position)
	}
	if r.Type != events.NewMessage {
		return nil
	}
	if r.Message == nil {
		return unstorable("no message")
	}
	if _, err := events.ParseConversation(r.Message.Conversation); err != nil {
		return events.Permanent(err)
	}
	for _, s := range []string{r.Message.MessageID, r.Message.ClientMsgID, r.Message.Content} {
		if !utf8.ValidString(s) {
			return unstorable("text that is not UTF-8")
		}
	}
	return nil
}

// each calls save for those records of the types that can be stored.
func (b *batch) each(save func(i int, r *events.Record) error, types ...events.Type) error {
	for i := range b.records {
		r := &b.records[i]
		if b.results[i] != nil || !slices.Contains(types, r.Type) {
			continue
		}
		if err := save(i, r); err != nil {
			return err
		}
	}
	return nil
}

// write runs an unordered bulk write, in which one failure does not stop the other writes.
func (db *DB) write(ctx context.Context, c *driver.Collection, models []driver.WriteModel) error {
	if len(models) == 0 {
		return nil
	}
	_, err := c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	return err
}

// touch notes that the conversation has an event at the record's position.
func (b *batch) touch(r *events.Record) *head {
	name := r.ConversationKey()
	b.partitions[name] = r.Partition
	h := b.heads[name]
	if h == nil {
		h = &head{}
		b.heads[name] = h
	}
	h.last = max(h.last, r.Seq)
	return h
}

// activate is like touch, for an event that moves the conversation to the top of its users' lists.
func (b *batch) activate(r *events.Record) {
	if h := b.touch(r); r.Seq > h.active {
		h.active, h.activeAt = r.Seq, r.Timestamp
		if r.Message != nil {
			h.activeAt = r.Message.Timestamp
		}
	}
}

// createConversations creates the documents of the conversations that begin with messages of the batch.
func (b *batch) createConversations(ctx context.Context) error {
	var conversations, participants []driver.WriteModel
	var names []string
	for name := range b.heads {
		if b.known.Contains(name) {
			continue
		}
		parsed, err := events.ParseConversation(name)
		if err != nil {
			return err
		}
		names = append(names, name)
		conversations = append(conversations, b.createConversation(name, b.partitions[name]))
		if parsed.GroupID != 0 {
			continue
		}
		for _, user := range slices.Compact([]int64{parsed.Low, parsed.High}) {
			participants = append(participants, create(b.newParticipant(user, name, b.partitions[name], 0)))
		}
	}
	if err := exceptDuplicates(b.write(ctx, b.conversations, conversations)); err != nil {
		return err
	}
	if err := exceptDuplicates(b.write(ctx, b.participants, participants)); err != nil {
		return err
	}
	for _, name := range names {
		b.known.Add(name, struct{}{})
	}
	return nil
}

func (b *batch) createConversation(name string, partition int32) *driver.UpdateOneModel {
	return create(doc(field("_id", name)),
		doc(field("partition", partition), field("last_seq", int64(0)), field("active_at", int64(0))))
}

// newParticipant returns the filter for a participant and the document to insert: in a group a member since joined.
func (b *batch) newParticipant(user int64, conversation string, partition int32, joined int64) (filter, document bson.D) {
	filter = doc(field("_id", participantID(user, conversation)), field("user", user))
	return filter, doc(field("conversation", conversation), field("partition", partition),
		field("read_seq", int64(0)), field("joined", joined), field("changed", joined))
}

// saveHeads advances the heads of the conversations.
func (b *batch) saveHeads(ctx context.Context) error {
	var models []driver.WriteModel
	for name, h := range b.heads {
		fields := doc(field("last_seq", h.last))
		if h.active != 0 {
			fields = append(fields, field("active_at", h.activeAt))
		}
		behind := doc(field("_id", name), field("last_seq", doc(field("$lt", h.last))))
		models = append(models, update(behind, set(fields...)))
	}
	return b.write(ctx, b.conversations, models)
}

// saveReadMarks advances users' read marks, at most to the events' own positions, because nobody can have read what came
// later.
func (b *batch) saveReadMarks(ctx context.Context) error {
	type mark struct {
		user         int64
		conversation string
	}
	marks := make(map[mark]int64)
	_ = b.each(func(_ int, r *events.Record) error {
		m := mark{r.User, r.Conversation}
		marks[m] = max(marks[m], min(r.MessageSeq, r.Seq))
		return nil
	}, events.MessageRead)
	var models []driver.WriteModel
	for m, seq := range marks {
		there := doc(field("_id", participantID(m.user, m.conversation)), field("user", m.user))
		models = append(models, update(there, doc(field("$max", doc(field("read_seq", seq))))))
	}
	return b.write(ctx, b.participants, models)
}

// savePositions advances the stored positions up to the first record that must be saved again.
func (b *batch) savePositions(ctx context.Context) error {
	failed, stored := make(map[int32]error), make(map[int32]int64)
	for i, r := range b.records {
		permanent := events.IsPermanent(b.results[i])
		if b.results[i] != nil && !permanent && failed[r.Partition] == nil {
			failed[r.Partition] = b.results[i]
		}
		switch {
		case failed[r.Partition] == nil && r.Partition >= 0 && r.Seq > 0:
			stored[r.Partition] = max(stored[r.Partition], r.Seq)
		case !permanent:
			b.results[i] = failed[r.Partition]
		}
	}
	return b.advance(ctx, stored)
}

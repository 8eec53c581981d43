package mongo

import (
	"context"
	"encoding/json"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/events"
	"millrace/infra/store"
)

// saveMessages inserts all messages of the batch at once. It looks up together those that are refused because their id or
// position is taken; most of them are stored already.
func (b *batch) saveMessages(ctx context.Context) error {
	var messages []message
	var of, repeats, taken []int // indexes of records
	first := make(map[string]int)
	_ = b.each(func(i int, r *events.Record) error {
		if _, ok := first[r.Message.MessageID]; ok {
			repeats = append(repeats, i)
			return nil
		}
		first[r.Message.MessageID] = i
		messages, of = append(messages, newMessage(r)), append(of, i)
		return nil
	}, events.NewMessage)
	if len(messages) == 0 {
		return nil
	}
	_, err := b.messages.InsertMany(ctx, messages, options.InsertMany().SetOrdered(false))
	failed, err := writeErrors(err)
	if err != nil {
		return err
	}
	for at, i := range of {
		refused, ok := failed[at]
		switch {
		case !ok:
			b.activate(&b.records[i])
		case refused.Code == duplicateKey:
			taken = append(taken, i)
		default:
			b.results[i] = fmt.Errorf("insert message: %w", classify(refused))
		}
	}
	for _, i := range repeats {
		if b.results[i] = b.results[first[b.records[i].Message.MessageID]]; b.results[i] == nil {
			taken = append(taken, i)
		}
	}
	return b.saveRepeats(ctx, taken)
}

func newMessage(r *events.Record) message {
	m := r.Message
	return message{
		ID: m.MessageID, Conversation: m.Conversation, Seq: r.Seq, ClientID: m.ClientMsgID,
		From: m.From, Type: m.MessageType, Timestamp: m.Timestamp, Content: m.Content,
		Extra: string(m.Extra), ReplyTo: m.ReplyTo, Mentions: m.Mentions, Recalled: m.Recalled,
	}
}

// saveRepeats tells redeliveries and repeats from messages that can never be stored.
func (b *batch) saveRepeats(ctx context.Context, records []int) error {
	known, err := b.lookUp(ctx, records, func(r *events.Record) string { return r.Message.MessageID })
	if err != nil {
		return err
	}
	for _, i := range records {
		r := &b.records[i]
		m, ok := known[messageKey{r.Message.Conversation, r.Message.MessageID}]
		switch {
		case !ok:
			b.results[i] = unstorable("another message has the id or the position %s", r.Position)
		case m.From != r.Message.From:
			b.results[i] = store.CheckRepeat(r, m.original())
		case m.Seq < r.Seq:
		case m.Seq == r.Seq:
			b.activate(r)
		default:
			if b.results[i] = b.move(ctx, r); b.results[i] == nil {
				b.activate(r)
			}
		}
	}
	return nil
}

// messageKey identifies a message. Its id alone is not unique in a sharded cluster.
type messageKey struct{ conversation, id string }

// lookUp returns the messages that records of the batch are about.
func (b *batch) lookUp(ctx context.Context, records []int, id func(*events.Record) string) (map[messageKey]message, error) {
	if len(records) == 0 {
		return nil, nil
	}
	conversations, ids := make(map[string]bool), make(map[string]bool)
	for _, i := range records {
		conversations[b.records[i].ConversationKey()] = true
		ids[id(&b.records[i])] = true
	}
	found, err := find[message](ctx, b.messagesByID(conversations, ids))
	if err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	known := make(map[messageKey]message, len(found))
	for _, m := range found {
		known[messageKey{m.Conversation, m.ID}] = m
	}
	return known, nil
}

// move moves the message to the record's position, which is lower. The message there wins, but keeps what was changed in the
// message since, unless it is erased there.
func (b *batch) move(ctx context.Context, r *events.Record) error {
	m := newMessage(r)
	there := doc(field("_id", m.ID), field("conversation", m.Conversation), field("seq", doc(field("$gt", m.Seq))))
	unchanged := append(there[:len(there):len(there)],
		field("recalled", doc(field("$ne", true))), field("change_seq", doc(field("$exists", false))))
	place := doc(field("seq", m.Seq), field("client_id", m.ClientID), field("from", m.From), field("type", m.Type), field("at", m.Timestamp),
		field("reply_to", m.ReplyTo), field("mentions", m.Mentions))
	whole := append(place[:len(place):len(place)], field("content", m.Content), field("extra", m.Extra))
	type step struct{ filter, fields bson.D }
	steps := []step{{unchanged, whole}, {there, place}}
	if m.Recalled {
		steps = []step{{there, append(whole, field("recalled", true))}}
	}
	for _, u := range steps {
		_, err := b.messages.UpdateOne(ctx, u.filter, set(u.fields...))
		if driver.IsDuplicateKeyError(err) {
			return unstorable("another message has the position %s", r.Position)
		}
		if err != nil {
			return fmt.Errorf("move message: %w", classify(err))
		}
	}
	return nil
}

func (m *message) original() *store.Original { return &store.Original{From: m.From, Seq: m.Seq} }

// saveChanges applies edits and recalls of messages by their senders, and recalls by admins. A recall wins over every edit, before or after it. Of
// several edits the latest counts, and of the repeats of one edit the first. Each write has no effect if it was overtaken, so
// the writes need no order.
func (b *batch) saveChanges(ctx context.Context) error {
	var records []int
	kinds := []events.Type{events.MessageEdited, events.MessageRecalled}
	_ = b.each(func(i int, _ *events.Record) error {
		records = append(records, i)
		return nil
	}, kinds...)
	known, err := b.lookUp(ctx, records, func(r *events.Record) string { return r.MessageID })
	if err != nil {
		return err
	}
	if err := b.recallErased(ctx, known); err != nil {
		return err
	}
	first, err := b.firstChanges(ctx, records)
	if err != nil {
		return err
	}
	var models []driver.WriteModel
	var made []int
	var before versions
	for _, i := range records {
		r := &b.records[i]
		m, ok := known[messageKey{r.Conversation, r.MessageID}]
		var original *store.Original
		if ok {
			original = m.original()
		}
		edit := r.Type == events.MessageEdited
		var by store.Standing
		if store.Foreign(r, original) {
			if by, err = b.standing(ctx, r.By, r.Conversation); err != nil {
				return err
			}
		}
		var effective bool
		if effective, b.results[i] = store.CheckChange(r, original, by); !effective {
			continue
		}
		key := messageKey{r.Conversation, r.EventID}
		at, repeated := first[key]
		if edit && m.Recalled || repeated && at < r.Seq {
			continue
		}
		first[key] = r.Seq
		made = append(made, i)
		if err := b.changeVersions(ctx, &before, &m, r); err != nil {
			return err
		}
		m.Recalled = m.Recalled || !edit // the edits after it must see that
		known[messageKey{r.Conversation, r.MessageID}] = m
		there := doc(field("_id", m.ID), field("conversation", m.Conversation))
		if edit {
			newest := append(there, field("recalled", doc(field("$ne", true))),
				field("change_seq", doc(field("$not", doc(field("$gte", r.Seq))))))
			models = append(models, update(newest,
				set(field("content", r.Content), field("extra", string(r.Extra)), field("edited_at", r.Timestamp), field("change_seq", r.Seq))))
		} else {
			models = append(models, update(there, set(field("content", ""), field("extra", ""), field("recalled", true))))
		}
	}
	if err := b.keepVersions(ctx, &before); err != nil {
		return err
	}
	if err := b.write(ctx, b.messages, models); err != nil {
		return err
	}
	if err := b.wipeVersions(ctx, &before); err != nil {
		return err
	}
	return b.keepChanges(ctx, made)
}

// keepChanges keeps the events for users who are away. Only the message itself has what an edit has put into it, so that
// a recall removes it.
func (b *batch) keepChanges(ctx context.Context, records []int) error {
	if len(records) == 0 {
		return nil
	}
	changes := make([]change, len(records))
	for at, i := range records {
		r := &b.records[i]
		e := r.Event
		e.Content, e.Extra = "", nil
		data, err := json.Marshal(&e)
		if err != nil {
			return fmt.Errorf("encode change: %w", err)
		}
		changes[at] = change{Conversation: r.Conversation, Seq: r.Seq, Partition: r.Partition, MessageID: r.MessageID, EventID: r.EventID, Event: string(data)}
	}
	_, err := b.changes.InsertMany(ctx, changes, options.InsertMany().SetOrdered(false))
	if err := exceptDuplicates(err); err != nil {
		return fmt.Errorf("keep change: %w", err)
	}
	for _, i := range records {
		b.touch(&b.records[i])
	}
	return nil
}

package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

const (
	findMessage   = `SELECT conversation_id, seq, sender, recalled FROM messages WHERE id = ?`
	insertMessage = `INSERT INTO messages
		(conversation_id, seq, id, client_id, sender, type, sent_at, recalled, edited_at, change_seq, content, extra, reply_to, mentions)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	// The message at the lower position wins, but keeps what was changed in the message since, unless it is erased there.
	moveMessage = `UPDATE OR IGNORE messages SET seq = ?2, client_id = ?4, sender = ?5, type = ?6, sent_at = ?7, recalled = recalled OR ?8,
			content = iif(NOT ?8 AND (recalled OR change_seq > 0), content, ?9),
			extra = iif(NOT ?8 AND (recalled OR change_seq > 0), extra, ?10), reply_to = ?11, mentions = ?12
		WHERE conversation_id = ?1 AND id = ?3`
	editMessage = `UPDATE messages SET content = ?4, edited_at = ?5, change_seq = ?3, extra = ?6
		WHERE conversation_id = ?1 AND seq = ?2 AND change_seq < ?3`
	recallMessage = `UPDATE messages SET content = '', extra = NULL, recalled = 1 WHERE conversation_id = ? AND seq = ?`
	insertChange  = `INSERT INTO changes (conversation_id, seq, type, message_id, event) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`
	findChange = `SELECT seq FROM changes WHERE conversation_id = ? AND json_extract(event, '$.event_id') = ? ORDER BY seq LIMIT 1`

	advanceReadMark = `UPDATE user_conversations SET read_seq = ?3
		WHERE user = ?1 AND conversation_id = ?2 AND read_seq < ?3`
)

func (b *batch) saveMessage(ctx context.Context, r *events.Record) error {
	m := r.Message
	if m == nil {
		return unstorable("no message")
	}
	if m.GroupID != 0 {
		if err := b.checkSender(ctx, r); err != nil {
			return err
		}
	}
	conversation, err := b.needConversation(ctx, m.Conversation, r.Partition)
	if err != nil {
		return err
	}
	inserted, err := b.change(ctx, insertMessage, b.columns(r, conversation)...)
	if err != nil {
		return fmt.Errorf("insert message: %w", err)
	}
	if inserted == 0 {
		return b.saveRepeat(ctx, r, conversation)
	}
	b.activate(conversation, r.Seq, m.Timestamp)
	return nil
}

// columns returns what a message is stored as: the arguments of insertMessage and moveMessage.
func (b *batch) columns(r *events.Record, conversation int64) []any {
	m := r.Message
	var replyTo any
	if m.ReplyTo != "" {
		replyTo = idValue(m.ReplyTo)
	}
	var mentions []byte
	if len(m.Mentions) > 0 {
		mentions, _ = json.Marshal(m.Mentions) // a list of integers cannot fail
	}
	return []any{
		conversation, r.Seq, idValue(m.MessageID), idValue(m.ClientMsgID), m.From, m.MessageType, m.Timestamp, m.Recalled, m.Content,
		orNull(m.Extra), replyTo, orNull(mentions),
	}
}

// saveRepeat moves the message with the record's id to the record's position if that is lower.
func (b *batch) saveRepeat(ctx context.Context, r *events.Record, conversation int64) error {
	var itsConversation int64
	var original store.Original
	found, err := b.get(ctx, findMessage, []any{idValue(r.Message.MessageID)}, &itsConversation, &original.Seq, &original.From, new(bool))
	switch {
	case err != nil:
		return fmt.Errorf("find message: %w", err)
	case !found:
		return positionTaken(r)
	case itsConversation != conversation:
		return unstorable("a message of another conversation has the id")
	}
	if err := store.CheckRepeat(r, &original); err != nil {
		return err
	}
	if original.Seq <= r.Seq {
		return nil
	}
	moved, err := b.change(ctx, moveMessage, b.columns(r, conversation)...)
	if err != nil {
		return fmt.Errorf("move message: %w", err)
	}
	if moved == 0 {
		return positionTaken(r)
	}
	b.activate(conversation, r.Seq, r.Message.Timestamp)
	return nil
}

func positionTaken(r *events.Record) error {
	return unstorable("another message has the position %s", r.Position)
}

// saveChange applies an edit or a recall of a message by its sender, or a recall by an admin. A recall wins over every edit, before or after it. Of
// the repeats of one edit the first counts, so an edit that came in between stays.
func (b *batch) saveChange(ctx context.Context, r *events.Record) error {
	messageID := idValue(r.MessageID)
	conversation, original, recalled, err := b.findOriginal(ctx, r, messageID)
	if err != nil {
		return err
	}
	var by store.Standing
	if store.Foreign(r, original) {
		if by, err = b.standing(ctx, r.By, conversation); err != nil {
			return err
		}
	}
	if effective, err := store.CheckChange(r, original, by); err != nil || !effective {
		return err
	}
	seq := original.Seq
	edit := r.Type == events.MessageEdited
	if edit && recalled {
		return nil
	}
	if repeat, err := b.repeatsChange(ctx, r, conversation); err != nil || repeat {
		return err
	}
	if err := b.keepVersion(ctx, r, conversation, seq); err != nil {
		return err
	}
	if edit {
		err = b.exec(ctx, editMessage, conversation, seq, r.Seq, r.Content, r.Timestamp, orNull(r.Extra))
	} else {
		err = b.exec(ctx, recallMessage, conversation, seq)
	}
	if err != nil {
		return fmt.Errorf("change message: %w", err)
	}
	return b.keepChange(ctx, r, conversation, messageID)
}

// repeatsChange reports whether the event of the record has had its effect at an earlier position.
func (b *batch) repeatsChange(ctx context.Context, r *events.Record, conversation int64) (bool, error) {
	var seq int64
	found, err := b.get(ctx, findChange, []any{conversation, r.EventID}, &seq)
	if err != nil {
		return false, fmt.Errorf("find change: %w", err)
	}
	return found && seq < r.Seq, nil
}

// findOriginal returns the message that the change is about, or nil if its conversation has no message with the id.
func (b *batch) findOriginal(
	ctx context.Context, r *events.Record, messageID any,
) (conversation int64, original *store.Original, recalled bool, err error) {
	conversation, err = b.conversation(ctx, r.Conversation)
	if err != nil || conversation == 0 {
		return conversation, nil, false, err
	}
	var itsConversation int64
	m := &store.Original{}
	found, err := b.get(ctx, findMessage, []any{messageID}, &itsConversation, &m.Seq, &m.From, &recalled)
	if err != nil {
		return 0, nil, false, fmt.Errorf("find message: %w", err)
	}
	if !found || itsConversation != conversation {
		return conversation, nil, false, nil
	}
	return conversation, m, recalled, nil
}

// keepChange keeps the event for users who are away. Only the message itself has what an edit has put into it, so that a recall
// removes it.
func (b *batch) keepChange(ctx context.Context, r *events.Record, conversation int64, messageID any) error {
	e := r.Event
	e.Content, e.Extra = "", nil
	data, err := json.Marshal(&e)
	if err != nil {
		return fmt.Errorf("encode change: %w", err)
	}
	if err := b.exec(ctx, insertChange, conversation, r.Seq, string(e.Type), messageID, string(data)); err != nil {
		return fmt.Errorf("insert change: %w", err)
	}
	b.touch(conversation, r.Seq)
	return nil
}

// saveReadMark advances the user's read mark, at most to the event's own position, because nobody can have read what came
// later.
func (b *batch) saveReadMark(ctx context.Context, r *events.Record) error {
	conversation, err := b.conversation(ctx, r.Conversation)
	if err != nil || conversation == 0 {
		return err
	}
	if err := b.exec(ctx, advanceReadMark, r.User, conversation, min(r.MessageSeq, r.Seq)); err != nil {
		return fmt.Errorf("advance read mark: %w", err)
	}
	return nil
}

// orNull returns the text to store in a column that is NULL where there is none.
func orNull(text []byte) any {
	if len(text) == 0 {
		return nil
	}
	return string(text)
}

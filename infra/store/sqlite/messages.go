package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

const (
	insertMessageID = `INSERT INTO message_ids (id, conversation_id, seq) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`
	moveMessageID   = `UPDATE message_ids SET seq = ?2 WHERE id = ?1`
	deleteMessageID = `DELETE FROM message_ids WHERE id = ?`
	findMessageID   = `SELECT conversation_id, seq FROM message_ids WHERE id = ?`
	insertMessage   = `INSERT INTO messages
		(conversation_id, seq, id, client_id, sender, type, sent_at, recalled, edited_at, change_seq, content, extra, reply_to, mentions)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	// The message at the lower position wins, but keeps what was changed in the message since, unless it is erased there.
	inheritChanges = `UPDATE messages AS m SET recalled = m.recalled OR old.recalled, edited_at = old.edited_at, change_seq = old.change_seq,
			content = iif(NOT m.recalled AND (old.recalled OR old.change_seq > 0), old.content, m.content),
			extra = iif(NOT m.recalled AND (old.recalled OR old.change_seq > 0), old.extra, m.extra)
		FROM messages AS old WHERE m.conversation_id = ?1 AND m.seq = ?2 AND old.conversation_id = ?1 AND old.seq = ?3`
	deleteMessage = `DELETE FROM messages WHERE conversation_id = ? AND seq = ?`
	findSender    = `SELECT sender, recalled FROM messages WHERE conversation_id = ? AND seq = ?`
	editMessage   = `UPDATE messages SET content = ?4, edited_at = ?5, change_seq = ?3, extra = ?6
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
	messageID := idValue(m.MessageID)
	inserted, err := b.change(ctx, insertMessageID, messageID, conversation, r.Seq)
	if err != nil {
		return fmt.Errorf("insert message id: %w", err)
	}
	if inserted == 0 {
		return b.saveRepeat(ctx, r, conversation)
	}
	if inserted, err = b.insertMessage(ctx, r, conversation); err != nil {
		return err
	}
	if inserted == 0 {
		if err := b.exec(ctx, deleteMessageID, messageID); err != nil {
			return fmt.Errorf("delete message id: %w", err)
		}
		return unstorable("another message has the position %s", r.Position)
	}
	b.activate(conversation, r.Seq, m.Timestamp)
	return nil
}

func (b *batch) insertMessage(ctx context.Context, r *events.Record, conversation int64) (int64, error) {
	m := r.Message
	var replyTo any
	if m.ReplyTo != "" {
		replyTo = idValue(m.ReplyTo)
	}
	var mentions []byte
	if len(m.Mentions) > 0 {
		mentions, _ = json.Marshal(m.Mentions) // a list of integers cannot fail
	}
	inserted, err := b.change(ctx, insertMessage, conversation, r.Seq, idValue(m.MessageID), idValue(m.ClientMsgID),
		m.From, m.MessageType, m.Timestamp, m.Recalled, m.Content, orNull(m.Extra), replyTo, orNull(mentions))
	if err != nil {
		return 0, fmt.Errorf("insert message: %w", err)
	}
	return inserted, nil
}

// saveRepeat moves the message with the record's id to the record's position if that is lower.
func (b *batch) saveRepeat(ctx context.Context, r *events.Record, conversation int64) error {
	var itsConversation, seq int64
	messageID := idValue(r.Message.MessageID)
	if _, err := b.get(ctx, findMessageID, []any{messageID}, &itsConversation, &seq); err != nil {
		return fmt.Errorf("find message id: %w", err)
	}
	if itsConversation != conversation {
		return unstorable("a message of another conversation has the id")
	}
	original := store.Original{Seq: seq}
	if _, err := b.get(ctx, findSender, []any{conversation, seq}, &original.From, new(bool)); err != nil {
		return fmt.Errorf("find message: %w", err)
	}
	if err := store.CheckRepeat(r, &original); err != nil {
		return err
	}
	if seq <= r.Seq {
		return nil
	}
	inserted, err := b.insertMessage(ctx, r, conversation)
	if err != nil {
		return err
	}
	if inserted == 0 {
		return unstorable("another message has the position %s", r.Position)
	}
	if err := b.exec(ctx, inheritChanges, conversation, r.Seq, seq); err != nil {
		return fmt.Errorf("move message: %w", err)
	}
	if err := b.exec(ctx, deleteMessage, conversation, seq); err != nil {
		return fmt.Errorf("move message: %w", err)
	}
	if err := b.exec(ctx, moveMessageID, messageID, r.Seq); err != nil {
		return fmt.Errorf("move message: %w", err)
	}
	b.activate(conversation, r.Seq, r.Message.Timestamp)
	return nil
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
	found, err := b.get(ctx, findMessageID, []any{messageID}, &itsConversation, &m.Seq)
	if err != nil {
		return 0, nil, false, fmt.Errorf("find message id: %w", err)
	}
	if !found || itsConversation != conversation {
		return conversation, nil, false, nil
	}
	if _, err := b.get(ctx, findSender, []any{conversation, m.Seq}, &m.From, &recalled); err != nil {
		return 0, nil, false, fmt.Errorf("find message: %w", err)
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

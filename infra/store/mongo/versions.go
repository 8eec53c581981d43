package mongo

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/events"
)

// versions are what a batch's edits and recalls leave behind of messages of groups: who left before sees them so.
type versions struct {
	keep []version
	wipe []wipe
}

// wipe is a recall of a message that nobody took away by leaving: nothing of it is kept.
type wipe struct{ conversation, message string }

// change makes of the message what the record makes of it, and notes how it was before.
func (v *versions) change(m *message, r *events.Record, takenAway bool) {
	before := version{
		ID: m.ID + " " + strconv.FormatInt(r.Seq, 10), Conversation: m.Conversation, MessageID: m.ID,
		Since: m.ChangeSeq, Until: r.Seq, EditedAt: m.EditedAt, Content: m.Content,
	}
	newer := m.ChangeSeq < r.Seq
	switch {
	case r.Type == events.MessageRecalled && !takenAway:
		v.wipe = append(v.wipe, wipe{m.Conversation, m.ID})
	case newer && !m.Recalled:
		v.keep = append(v.keep, before)
	}
	switch {
	case r.Type == events.MessageRecalled:
		m.Content, m.Recalled = "", true
	case newer:
		m.Content, m.EditedAt, m.ChangeSeq = r.Content, r.Timestamp, r.Seq
	}
}

// changeVersions notes what the record leaves behind of the message. Messages of two users leave nothing.
func (b *batch) changeVersions(ctx context.Context, v *versions, m *message, r *events.Record) error {
	if c, err := events.ParseConversation(m.Conversation); err != nil || c.GroupID == 0 {
		return err
	}
	takenAway := false
	if r.Type == events.MessageRecalled {
		left, err := find[participant](ctx, b.leftAfter(m.Conversation, m.Seq))
		if err != nil {
			return fmt.Errorf("find who left: %w", err)
		}
		takenAway = slices.ContainsFunc(left, func(p participant) bool { return p.tookAway(m.Seq, r.Seq) })
	}
	v.change(m, r, takenAway)
	return nil
}

// leftAfter asks for those who have left the group after the position at least once.
func (db *DB) leftAfter(conversation string, seq int64) query {
	return query{of: db.participants, filter: doc(field("conversation", conversation), field("past.left", doc(field("$gte", seq))))}
}

// tookAway reports whether the user has seen the message at the first position and left before the second.
func (p *participant) tookAway(message, change int64) bool {
	return slices.ContainsFunc(p.Past, func(s stay) bool { return s.Joined < message && message <= s.Left && s.Left < change })
}

func (b *batch) keepVersions(ctx context.Context, v *versions) error {
	if len(v.keep) == 0 {
		return nil
	}
	_, err := b.versions.InsertMany(ctx, v.keep, options.InsertMany().SetOrdered(false))
	if err := exceptDuplicates(err); err != nil {
		return fmt.Errorf("keep versions: %w", err)
	}
	return nil
}

func (b *batch) wipeVersions(ctx context.Context, v *versions) error {
	for _, w := range v.wipe {
		_, err := b.versions.DeleteMany(ctx, doc(field("conversation", w.conversation), field("message_id", w.message)))
		if err != nil {
			return fmt.Errorf("wipe versions: %w", err)
		}
	}
	return nil
}

func (db *DB) versionsOf(conversation string, ids []string, asOf int64) query {
	return query{of: db.versions, filter: doc(
		field("conversation", conversation), field("message_id", doc(field("$in", ids))),
		field("since", doc(field("$lte", asOf))), field("until", doc(field("$gt", asOf))),
	)}
}

// asOf makes of the messages of one conversation what they were at the position; those of the reader stay as they are.
func (db *DB) asOf(ctx context.Context, conversation string, messages []message, asOf, reader int64) error {
	changed := make(map[string]*message)
	var ids []string
	for i := range messages {
		if m := &messages[i]; m.From != reader && (m.Recalled || m.ChangeSeq > asOf) {
			changed[m.ID] = m
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := find[version](ctx, db.versionsOf(conversation, ids, asOf))
	if err != nil {
		return fmt.Errorf("messages of %s as of %d: %w", conversation, asOf, err)
	}
	for _, v := range found {
		m := changed[v.MessageID]
		m.Content, m.EditedAt, m.Recalled = v.Content, v.EditedAt, false
	}
	return nil
}

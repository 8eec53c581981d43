package mongo

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"millrace/events"
)

// versions are the former states of group messages that a batch's edits and recalls leave behind for users who left before.
type versions struct {
	keep []version
	wipe []wipe
}

// wipe is a recalled message that no user who left has seen, so that nothing of it is kept.
type wipe struct{ conversation, message string }

// change applies the record to the message and notes what the message was before. takenAway says that a user who left has
// seen it.
func (v *versions) change(m *message, r *events.Record, takenAway bool) {
	before := version{
		ID: m.ID + " " + strconv.FormatInt(r.Seq, 10), Conversation: m.Conversation, MessageID: m.ID,
		Since: m.ChangeSeq, Until: r.Seq, EditedAt: m.EditedAt, Content: m.Content, Extra: m.Extra,
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
		m.Content, m.Extra, m.Recalled = "", "", true
	case newer:
		m.Content, m.Extra, m.EditedAt, m.ChangeSeq = r.Content, string(r.Extra), r.Timestamp, r.Seq
	}
}

// changeVersions notes what a group message was before the record changes it. Messages between two users have no versions.
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

// leftAfter is the query for users who have left the group after the position at least once.
func (db *DB) leftAfter(conversation string, seq int64) query {
	return query{of: db.participants, filter: doc(field("conversation", conversation), field("past.left", doc(field("$gte", seq))))}
}

// tookAway reports whether the user could see the message and left before the change, both given by their positions.
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

// asOf changes the messages of one conversation to what they were at the position, except those of the reader.
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
		m.Content, m.Extra, m.EditedAt, m.Recalled = v.Content, v.Extra, v.EditedAt, false
	}
	return nil
}

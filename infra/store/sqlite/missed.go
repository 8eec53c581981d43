package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"millrace/events"
)

const (
	latestOfUser = `SELECT c.id, c.name, c.partition, c.last_seq
		FROM user_conversations u JOIN conversations c ON c.id = u.conversation_id WHERE u.user = ?`
	userStays      = `SELECT joined_seq, left_seq FROM stays WHERE user = ? AND conversation_id = ? ORDER BY joined_seq`
	messagesWithin = `SELECT ` + messageColumns + ` FROM messages m` + versionThen + `
		WHERE m.conversation_id = ?3 AND m.seq > ?4 AND m.seq <= ?5 ORDER BY m.seq LIMIT ?6`
	// An edit comes with the message as it was in the end, or not at all if the message was recalled. Changes of messages
	// from before the stay are left out, and so are renamings whose name is erased.
	changesWithin = `SELECT ch.seq, ch.event, ifnull(m.seq, 0), ifnull(v.content, ifnull(m.content, '')),
			iif(v.message_id IS NULL, m.extra, v.extra)
		FROM changes ch
		LEFT JOIN messages m ON m.id = ch.message_id` + versionThen + `
		WHERE ch.conversation_id = ?3 AND ch.seq > ?4 AND ch.seq <= ?5 AND ifnull(m.seq > ?7, 1)
			AND NOT (ch.type = 'message_edited' AND v.message_id IS NULL AND ifnull(m.recalled, 1))
			AND NOT (ch.type = 'group_renamed' AND json_extract(ch.event, '$.name') IS NULL)
		ORDER BY ch.seq LIMIT ?6`
)

// Missed returns the events in the ranges that concern the user, ascending within each partition: those of its direct
// conversations, and of a group those from its joining to its leaving, both included, without changes of messages from before
// the joining. It leaves out read marks. Messages and their edits come as the messages are now or, in a stay that has ended,
// as they were at its end; a recalled message comes without content. If there are more than limit events, it returns any
// limit of them.
func (db *DB) Missed(ctx context.Context, user int64, ranges []events.Range, limit int) ([]events.Record, error) {
	var records []events.Record
	err := db.readers.within(ctx, func(work context.Context, c *conn) error {
		changed, err := c.changedWithin(work, user, ranges)
		if err != nil {
			return err
		}
		for _, w := range changed {
			if err := ctx.Err(); err != nil || len(records) >= limit {
				return err
			}
			found, err := c.missed(work, user, w, limit-len(records))
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			records = append(records, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("missed by user %d: %w", user, err)
	}
	slices.SortFunc(records, func(a, b events.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Seq, b.Seq))
	})
	return records[:min(len(records), max(limit, 0))], nil
}

// window is a part of a conversation's positions that the user may see.
type window struct {
	conversation int64
	name         string
	events.Range
	joined int64 // the user learns nothing about messages up to here
	asOf   int64 // messages are returned as they were here
}

// changedWithin returns the user's conversations in which something happened after the beginning of a range.
func (c *conn) changedWithin(ctx context.Context, user int64, ranges []events.Range) ([]window, error) {
	byPartition := make(map[int32][]events.Range, len(ranges))
	for _, r := range ranges {
		byPartition[r.Partition] = append(byPartition[r.Partition], r)
	}
	var changed []window
	err := c.list(ctx, latestOfUser, []any{user}, func(rows *sql.Rows) error {
		w := window{asOf: now}
		var last int64
		if err := rows.Scan(&w.conversation, &w.name, &w.Partition, &last); err != nil {
			return err
		}
		for _, w.Range = range byPartition[w.Partition] {
			if last > w.After {
				changed = append(changed, w)
			}
		}
		return nil
	})
	return changed, err
}

func (c *conn) missed(ctx context.Context, user int64, w window, limit int) ([]events.Record, error) {
	windows, err := c.stayed(ctx, user, w)
	if err != nil {
		return nil, err
	}
	var records []events.Record
	for _, w := range windows {
		if len(records) >= limit {
			break
		}
		args := []any{w.asOf, user, w.conversation, w.After, w.Through, limit - len(records)}
		messages, err := c.messages(ctx, w.name, messagesWithin, args...)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			records = append(records, events.Record{
				Event:    events.Event{Type: events.NewMessage, Message: &m.Message, EventID: m.MessageID, Timestamp: m.Timestamp},
				Position: events.Position{Partition: w.Partition, Seq: m.Seq},
			})
		}
		changes, err := c.changes(ctx, w.Partition, append(args, w.joined))
		if err != nil {
			return nil, err
		}
		records = append(records, changes...)
	}
	return records, nil
}

func (c *conn) changes(ctx context.Context, partition int32, args []any) ([]events.Record, error) {
	var records []events.Record
	err := c.list(ctx, changesWithin, args, func(rows *sql.Rows) error {
		r := events.Record{Position: events.Position{Partition: partition}}
		var event, content string
		var messageSeq int64
		var extra []byte
		if err := rows.Scan(&r.Seq, &event, &messageSeq, &content, &extra); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(event), &r.Event); err != nil {
			return fmt.Errorf("change at %s: %w", r.Position, err)
		}
		r.Content, r.Extra, r.MessageSeq = content, extra, messageSeq
		records = append(records, r)
		return nil
	})
	return records, err
}

// stayed returns the parts of a group's window in which the user was a member, the first one first, or all of it for a direct
// conversation.
func (c *conn) stayed(ctx context.Context, user int64, w window) ([]window, error) {
	conversation, err := events.ParseConversation(w.name)
	if err != nil || conversation.GroupID == 0 {
		return []window{w}, err
	}
	var windows []window
	err = c.list(ctx, userStays, []any{user, w.conversation}, func(rows *sql.Rows) error {
		var joined, left int64
		if err := rows.Scan(&joined, &left); err != nil {
			return err
		}
		if left == 0 {
			left = now
		}
		stay := w
		stay.joined, stay.asOf = joined, left
		stay.After, stay.Through = max(w.After, joined-1), min(w.Through, left)
		if stay.After < stay.Through {
			windows = append(windows, stay)
		}
		return nil
	})
	return windows, err
}

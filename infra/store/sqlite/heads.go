package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"millrace/events"
	"millrace/infra/store"
)

const (
	maxUnread = 999
	// countedMessages bounds the work of counting: it is how many of the newest unread messages are looked at. The count is
	// too low only if more than half of them are the user's own or recalled.
	countedMessages = 2 * maxUnread

	userHeads = `SELECT c.id, c.active_at, c.name, u.read_seq
		FROM user_conversations u JOIN conversations c ON c.id = u.conversation_id
		WHERE u.user = ?1 AND c.last_seq > 0 AND (c.active_at, c.name) < (?2, ?3) AND (c.name GLOB 'u:*' OR EXISTS
			(SELECT 1 FROM stays s WHERE s.user = u.user AND s.conversation_id = u.conversation_id AND s.left_seq = 0))
		ORDER BY c.active_at DESC, c.name DESC LIMIT ?4`
	lastMessage = `SELECT ` + messageColumns + ` FROM messages m` + versionThen + `
		WHERE m.conversation_id = ?3 AND m.seq > ?4 AND m.seq <= ?5 ORDER BY m.seq DESC LIMIT 1`
	countUnread = `SELECT count(*), ifnull(sum(sender <> ?4 AND NOT recalled), 0) FROM (SELECT sender, recalled FROM messages
			WHERE conversation_id = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq DESC LIMIT ?5)`
)

// Heads returns at most limit of the user's direct conversations and groups, in the order of their places and after the place
// passed, and whether there are more.
func (db *DB) Heads(ctx context.Context, user int64, behind store.Place, limit int) ([]store.Head, bool, error) {
	var heads []store.Head
	var more bool
	err := db.readers.within(ctx, func(work context.Context, c *conn) error {
		candidates, err := c.candidates(work, user, behind, max(limit, 0)+1)
		if err != nil {
			return err
		}
		if more = len(candidates) > limit; more {
			candidates = candidates[:max(limit, 0)]
		}
		for _, h := range candidates {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.complete(work, user, &h); err != nil {
				return fmt.Errorf("%s: %w", h.Conversation, err)
			}
			heads = append(heads, h.Head)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("conversations of user %d: %w", user, err)
	}
	return heads, more, nil
}

type userHead struct {
	store.Head
	conversation int64
}

func (c *conn) candidates(ctx context.Context, user int64, behind store.Place, limit int) ([]userHead, error) {
	if behind == (store.Place{}) {
		behind.ActiveAt = now
	}
	var heads []userHead
	err := c.list(ctx, userHeads, []any{user, behind.ActiveAt, behind.Conversation, limit}, func(rows *sql.Rows) error {
		var h userHead
		if err := rows.Scan(&h.conversation, &h.ActiveAt, &h.Conversation, &h.ReadSeq); err != nil {
			return err
		}
		heads = append(heads, h)
		return nil
	})
	return heads, err
}

// complete adds the last message that the user may see and the number of unread ones.
func (c *conn) complete(ctx context.Context, user int64, h *userHead) error {
	windows, err := c.stayed(ctx, user, window{
		conversation: h.conversation, name: h.Conversation, Range: events.Range{Through: now}, asOf: now,
	})
	if err != nil {
		return err
	}
	for _, w := range slices.Backward(windows) {
		last, err := c.messages(ctx, w.name, lastMessage, w.asOf, user, w.conversation, w.joined, w.Through)
		if err != nil {
			return err
		}
		if len(last) != 0 {
			h.Last = &last[0]
			break
		}
	}
	if err := c.settings(ctx, user, h); err != nil {
		return err
	}
	h.Unread, err = c.unread(ctx, user, h.ReadSeq, windows)
	return err
}

// unread counts the messages of others in the windows after the read mark.
func (c *conn) unread(ctx context.Context, user, read int64, windows []window) (int, error) {
	unread, toLookAt := 0, countedMessages
	for _, w := range slices.Backward(windows) {
		var looked, others int
		args := []any{w.conversation, max(read, w.joined), w.Through, user, toLookAt}
		if _, err := c.get(ctx, countUnread, args, &looked, &others); err != nil {
			return 0, err
		}
		unread, toLookAt = unread+others, toLookAt-looked
		if unread >= maxUnread || toLookAt == 0 || w.joined <= read {
			break
		}
	}
	return min(unread, maxUnread), nil
}

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
	// countedMessages bounds the work of counting: of what is unread, this many of the newest are looked at. It counts
	// fewer than there are only if the user's own and recalled messages are more than half of them.
	countedMessages = 2 * maxUnread

	userHeads = `SELECT c.id, c.name, u.read_seq, ifnull(s.joined_seq, 0)
		FROM user_conversations u
		JOIN conversations c ON c.id = u.conversation_id
		LEFT JOIN stays s ON s.user = u.user AND s.conversation_id = u.conversation_id AND s.left_seq = 0
		WHERE u.user = ? AND c.last_seq > 0 AND (s.joined_seq IS NOT NULL OR c.name GLOB 'u:*')
		ORDER BY c.active_at DESC, c.last_seq DESC LIMIT ?`
	lastMessage = `SELECT ` + messageColumns + ` FROM messages m` + versionThen + `
		WHERE m.conversation_id = ?3 AND m.seq > ?4 AND m.seq <= ?5 ORDER BY m.seq DESC LIMIT 1`
	countUnread = `SELECT count(*) FROM (SELECT sender, recalled FROM messages
			WHERE conversation_id = ? AND seq > ? ORDER BY seq DESC LIMIT ?)
		WHERE sender <> ? AND NOT recalled`
)

// Heads answers the user's direct conversations and the groups it is a member of, the one with the latest message or
// change of membership first.
func (db *DB) Heads(ctx context.Context, user int64, limit int) ([]store.Head, error) {
	var heads []store.Head
	err := db.readers.within(ctx, func(work context.Context, c *conn) error {
		candidates, err := c.candidates(work, user, limit)
		if err != nil {
			return err
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
		return nil, fmt.Errorf("conversations of user %d: %w", user, err)
	}
	return heads, nil
}

type userHead struct {
	store.Head
	conversation int64
	joined       int64 // 0: direct
}

func (c *conn) candidates(ctx context.Context, user int64, limit int) ([]userHead, error) {
	var heads []userHead
	err := c.list(ctx, userHeads, []any{user, max(limit, 0)}, func(rows *sql.Rows) error {
		var h userHead
		if err := rows.Scan(&h.conversation, &h.Conversation, &h.ReadSeq, &h.joined); err != nil {
			return err
		}
		heads = append(heads, h)
		return nil
	})
	return heads, err
}

// complete adds the last message that the user may see and the number of those it has not read.
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
	_, err = c.get(ctx, countUnread, []any{h.conversation, max(h.ReadSeq, h.joined), countedMessages, user}, &h.Unread)
	h.Unread = min(h.Unread, maxUnread)
	return err
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"millrace/events"
	"millrace/infra/store"
)

const erasuresOfUsers = `
-- By partition, up to which position nothing is kept of what users have written who were erased.
CREATE TABLE erasures (
	user      INTEGER NOT NULL,
	partition INTEGER NOT NULL,
	seq       INTEGER NOT NULL,
	PRIMARY KEY (user, partition)
) STRICT, WITHOUT ROWID;
`

const (
	saveErasure = `INSERT INTO erasures (user, partition, seq) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq`
	anyErasure     = `SELECT 1 FROM erasures LIMIT 1`
	erasuresOf     = `SELECT user, partition, seq FROM erasures WHERE user IN (SELECT value FROM json_each(?))`
	erasedIn       = `SELECT c.id, e.seq FROM conversations c JOIN erasures e ON e.partition = c.partition WHERE c.name = ? AND e.user = ?`
	erasureSection = `SELECT min(?4,
		ifnull((SELECT seq FROM messages WHERE conversation_id = ?1 AND seq > ?2 ORDER BY seq LIMIT 1 OFFSET ?3), ?4),
		ifnull((SELECT seq FROM changes WHERE conversation_id = ?1 AND seq > ?2 ORDER BY seq LIMIT 1 OFFSET ?3), ?4))`

	// Each empties what the user ?4 has written at the positions (?2, ?3] of the conversation ?1.
	eraseVersions = `DELETE FROM versions WHERE message_id IN
		(SELECT id FROM messages WHERE conversation_id = ?1 AND seq > ?2 AND seq <= ?3 AND sender = ?4)`
	eraseMessages = `UPDATE messages SET content = '', extra = NULL, reply_to = NULL, mentions = NULL, recalled = 1
		WHERE conversation_id = ?1 AND seq > ?2 AND seq <= ?3 AND sender = ?4
			AND NOT (recalled AND reply_to IS NULL AND mentions IS NULL)`
	eraseGroupName = `UPDATE groups SET name = '' WHERE conversation_id = ?1 AND EXISTS (SELECT 1 FROM changes
		WHERE conversation_id = ?1 AND seq > ?2 AND seq <= ?3 AND json_extract(event, '$.by') = ?4
			AND (type = 'group_renamed' AND seq = renamed_seq OR type = 'group_created' AND renamed_seq = 0))`
	eraseNames = `UPDATE changes SET event = json_remove(event, '$.name')
		WHERE conversation_id = ?1 AND seq > ?2 AND seq <= ?3 AND type IN ('group_renamed', 'group_created')
			AND json_extract(event, '$.by') = ?4`

	eraseSettings      = `UPDATE settings SET value = 0 WHERE user = ? AND conversation_id = ? AND seq <= ?`
	eraseSubscriptions = `DELETE FROM subscriptions WHERE user = ?`
	eraseNotifications = `DELETE FROM notifications WHERE user = ?`
	eraseSeen          = `DELETE FROM users WHERE id = ? AND NOT online`
)

// SaveErasure notes that what the user has written up to these positions is erased. Whatever is saved from now on lacks it.
func (db *DB) SaveErasure(ctx context.Context, user int64, through map[int32]int64) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for partition, seq := range through {
			if err := c.exec(ctx, saveErasure, user, partition, seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save erasure of user %d: %w", user, err)
	}
	return nil
}

// erasures returns those that concern the records. While nobody was erased it takes one look at an empty table.
func (c *conn) erasures(ctx context.Context, records []events.Record) (store.Erasures, error) {
	if found, err := c.get(ctx, anyErasure, nil, new(int)); err != nil || !found {
		return nil, err
	}
	users, err := json.Marshal(store.Authors(records))
	if err != nil {
		return nil, err
	}
	erasures := make(store.Erasures)
	err = c.list(ctx, erasuresOf, []any{string(users)}, func(rows *sql.Rows) error {
		var user, seq int64
		var partition int32
		if err := rows.Scan(&user, &partition, &seq); err != nil {
			return err
		}
		erasures.Add(user, partition, seq)
		return nil
	})
	return erasures, err
}

// EraseIn empties, in a conversation and after the position, some of what the user's erasure covers: in one transaction that
// looks at no more than [store.ErasedAtOnce] messages and as many changes. It returns how many messages it has emptied, and
// after which position to go on, or 0 once there is nothing left.
func (db *DB) EraseIn(ctx context.Context, user int64, conversation string, after int64) (messages int, next int64, err error) {
	err = db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		var id, last, through int64
		found, err := c.get(ctx, erasedIn, []any{conversation, user}, &id, &last)
		if err != nil || !found || after >= last {
			return err
		}
		if _, err := c.get(ctx, erasureSection, []any{id, after, store.ErasedAtOnce - 1, last}, &through); err != nil {
			return err
		}
		section := []any{id, after, through, user}
		for _, statement := range []string{eraseVersions, eraseGroupName, eraseNames} {
			if err := c.exec(ctx, statement, section...); err != nil {
				return err
			}
		}
		emptied, err := c.change(ctx, eraseMessages, section...)
		if err != nil {
			return err
		}
		messages = int(emptied)
		if through < last {
			next = through
		}
		return c.exec(ctx, eraseSettings, user, id, last)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("erase user %d in %s: %w", user, conversation, err)
	}
	return messages, next, nil
}

// EraseAccount drops the user's subscriptions and what it was to be told there, and, unless it is online, when it was seen.
func (db *DB) EraseAccount(ctx context.Context, user int64) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for _, statement := range []string{eraseSubscriptions, eraseNotifications, eraseSeen} {
			if err := c.exec(ctx, statement, user); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("erase the account of user %d: %w", user, err)
	}
	return nil
}

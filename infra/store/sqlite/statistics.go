package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"millrace/events"
	"millrace/infra/store"
)

const (
	countedUpTo    = `SELECT seq FROM counted WHERE series = ? AND partition = ?`
	setCountedUpTo = `INSERT INTO counted (series, partition, seq) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET seq = ?3`
	replaysAfter   = `SELECT seq FROM counted_replays WHERE series = ? AND partition = ? AND seq > ?`
	insertReplay   = `INSERT INTO counted_replays (series, partition, seq) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`
	addToBucket    = `INSERT INTO buckets (series, span, start, messages, within_2, within_5, within_60) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET messages = messages + excluded.messages, within_2 = within_2 + excluded.within_2,
			within_5 = within_5 + excluded.within_5, within_60 = within_60 + excluded.within_60`
	addToBusy = `INSERT INTO busy_conversations (series, span, start, conversation, messages) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET messages = messages + excluded.messages`
	addActiveUser = `INSERT INTO active_users (series, span, start, user) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`

	listBuckets = `SELECT start, messages, within_2, within_5, within_60,
			(SELECT count(*) FROM active_users u WHERE u.series = b.series AND u.span = b.span AND u.start = b.start),
			(SELECT count(*) FROM busy_conversations c WHERE c.series = b.series AND c.span = b.span AND c.start = b.start)
		FROM buckets b WHERE series = ? AND span = ? AND start >= ? ORDER BY start`
	listBusiest = `SELECT conversation, sum(messages) FROM busy_conversations WHERE series = ? AND span = ? AND start >= ?
		GROUP BY conversation ORDER BY 2 DESC, 1 LIMIT ?`

	dropBuckets = `DELETE FROM buckets WHERE series = ? AND span = ? AND start < ?`
	dropBusy    = `DELETE FROM busy_conversations WHERE series = ? AND span = ? AND start < ?`
	dropActive  = `DELETE FROM active_users WHERE series = ? AND span = ? AND start < ?`
)

// CountMessages counts, in one transaction, those of the partition's records that the series has not counted yet.
func (db *DB) CountMessages(ctx context.Context, series string, records []events.Record, now time.Time) error {
	entries := store.Entries(records, now)
	if len(entries) == 0 {
		return nil
	}
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		fresh, err := c.uncounted(ctx, series, entries)
		if err != nil {
			return err
		}
		return c.count(ctx, series, fresh)
	})
	if err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	return nil
}

// uncounted returns those of the entries, all of one partition, that were not counted, and notes that they are now.
func (c *conn) uncounted(ctx context.Context, series string, entries []store.Entry) ([]store.Entry, error) {
	partition := entries[0].Partition
	var last int64
	if _, err := c.get(ctx, countedUpTo, []any{series, partition}, &last); err != nil {
		return nil, err
	}
	replayed := make(map[int64]bool)
	err := c.list(ctx, replaysAfter, []any{series, partition, last}, func(rows *sql.Rows) error {
		var seq int64
		err := rows.Scan(&seq)
		replayed[seq] = true
		return err
	})
	if err != nil {
		return nil, err
	}
	through := last
	isFresh := make(map[events.Position]bool) // an entry decides for all of its record
	var fresh []store.Entry
	for _, e := range entries {
		is, decided := isFresh[e.Position]
		if !decided {
			if e.Replay {
				n, err := c.change(ctx, insertReplay, series, partition, e.Seq)
				if err != nil {
					return nil, err
				}
				is = n == 1
			} else {
				is = e.Seq > last && !replayed[e.Seq]
				through = max(through, e.Seq)
			}
			isFresh[e.Position] = is
		}
		if is {
			fresh = append(fresh, e)
		}
	}
	if through > last {
		return fresh, c.exec(ctx, setCountedUpTo, series, partition, through)
	}
	return fresh, nil
}

func (c *conn) count(ctx context.Context, series string, entries []store.Entry) error {
	type bucket struct{ span, start int64 }
	type busy struct {
		bucket
		conversation string
	}
	type active struct {
		bucket
		user int64
	}
	buckets := make(map[bucket]*store.Bucket)
	conversations := make(map[busy]int64)
	users := make(map[active]bool)
	for _, e := range entries {
		at := bucket{e.Span, e.Start}
		b := buckets[at]
		if b == nil {
			b = &store.Bucket{}
			buckets[at] = b
		}
		b.Messages++
		for i, n := range e.Within {
			b.Within[i] += n
		}
		conversations[busy{at, e.Message.Conversation}]++
		users[active{at, e.Message.From}] = true
	}
	for at, b := range buckets {
		if err := c.exec(ctx, addToBucket, series, at.span, at.start, b.Messages, b.Within[0], b.Within[1], b.Within[2]); err != nil {
			return err
		}
	}
	for at, n := range conversations {
		if err := c.exec(ctx, addToBusy, series, at.span, at.start, at.conversation, n); err != nil {
			return err
		}
	}
	for at := range users {
		if err := c.exec(ctx, addActiveUser, series, at.span, at.start, at.user); err != nil {
			return err
		}
	}
	return nil
}

// DropBuckets deletes what is no longer kept of the series.
func (db *DB) DropBuckets(ctx context.Context, series string, now time.Time) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for _, span := range store.Spans() {
			for _, statement := range []string{dropBuckets, dropBusy, dropActive} {
				if err := c.exec(ctx, statement, series, span.Seconds, span.Oldest(now)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("drop buckets: %w", err)
	}
	return nil
}

// Buckets returns the buckets of the series that begin at the time or later, in ascending order.
func (db *DB) Buckets(ctx context.Context, series string, span store.Span, since int64) (all []store.Bucket, err error) {
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, listBuckets, []any{series, span.Seconds, since}, func(rows *sql.Rows) error {
			var b store.Bucket
			err := rows.Scan(&b.Start, &b.Messages, &b.Within[0], &b.Within[1], &b.Within[2], &b.Users, &b.Conversations)
			all = append(all, b)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("buckets: %w", err)
	}
	return all, nil
}

// Busiest returns the conversations with the most messages in the buckets that begin at the time or later.
func (db *DB) Busiest(ctx context.Context, series string, span store.Span, since int64, limit int) (all []store.Busy, err error) {
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, listBusiest, []any{series, span.Seconds, since, limit}, func(rows *sql.Rows) error {
			var b store.Busy
			err := rows.Scan(&b.Conversation, &b.Messages)
			all = append(all, b)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("busiest conversations: %w", err)
	}
	return all, nil
}

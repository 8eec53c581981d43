package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"millrace/events"
)

const (
	storedPositions = `SELECT partition, seq FROM positions`
	findTopic       = `SELECT id, epoch, cuts, version, changed FROM topics WHERE name = ?`
	setTopic        = `INSERT INTO topics (name, id, epoch, cuts, version, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT DO UPDATE SET id = ?2, epoch = ?3, cuts = ?4, version = ?5, changed = ?6 WHERE version = ?5 - 1`
)

// Stored returns, by partition, the position up to which every record was saved or otherwise done with. It is never ahead of
// what the other methods return.
func (db *DB) Stored(ctx context.Context) (map[int32]int64, error) {
	stored, err := db.seqs(ctx, storedPositions)
	if err != nil {
		return nil, fmt.Errorf("stored positions: %w", err)
	}
	return stored, nil
}

// seqs returns what the statement finds: partitions, each with a seq.
func (db *DB) seqs(ctx context.Context, statement string, args ...any) (map[int32]int64, error) {
	found := make(map[int32]int64)
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, statement, args, func(rows *sql.Rows) error {
			var partition int32
			var seq int64
			if err := rows.Scan(&partition, &seq); err != nil {
				return err
			}
			found[partition] = seq
			return nil
		})
	})
	return found, err
}

// Advance notes that everything up to the positions is done with, including records that are not to be stored.
func (db *DB) Advance(ctx context.Context, positions map[int32]int64) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for partition, seq := range positions {
			if err := c.exec(ctx, advancePosition, partition, seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("advance positions: %w", err)
	}
	return nil
}

// Epochs returns the topic's epochs, or the zero value if none were ever set.
func (db *DB) Epochs(ctx context.Context, topic string) (e events.Epochs, err error) {
	var cuts string
	err = db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		found, err := c.get(ctx, findTopic, []any{topic}, &e.TopicID, &e.First, &cuts, &e.Version, &e.Changed)
		if err != nil || !found {
			return err
		}
		return json.Unmarshal([]byte(cuts), &e.Cuts)
	})
	if err != nil {
		return e, fmt.Errorf("epochs of topic %s: %w", topic, err)
	}
	return e, nil
}

// SetEpochs sets the topic's epochs if their version follows the one that is stored, and reports whether it did.
func (db *DB) SetEpochs(ctx context.Context, topic string, e events.Epochs) (set bool, err error) {
	cuts, err := json.Marshal(e.Cuts)
	if err != nil {
		return false, fmt.Errorf("encode epochs of topic %s: %w", topic, err)
	}
	err = db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		changed, err := c.change(ctx, setTopic, topic, e.TopicID, e.First, string(cuts), e.Version, e.Changed)
		set = changed == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("set epochs of topic %s: %w", topic, err)
	}
	return set, nil
}

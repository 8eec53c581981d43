package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

const (
	storedPositions = `SELECT partition, seq FROM positions`
	findTopic       = `SELECT id, epoch FROM topics WHERE name = ?`
	setTopic        = `INSERT INTO topics (name, id, epoch) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET id = ?2, epoch = ?3`
)

// Stored answers per partition the position up to which every record has been saved. It is never ahead of what the other
// methods see.
func (db *DB) Stored(ctx context.Context) (map[int32]int64, error) {
	stored := make(map[int32]int64)
	err := db.readers.within(ctx, func(ctx context.Context, c *conn) error {
		return c.list(ctx, storedPositions, nil, func(rows *sql.Rows) error {
			var partition int32
			var seq int64
			if err := rows.Scan(&partition, &seq); err != nil {
				return err
			}
			stored[partition] = seq
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("stored positions: %w", err)
	}
	return stored, nil
}

// Epoch answers the epoch of the topic's positions: 0 for the first id that was ever seen, one more whenever the id is
// another than the last one.
func (db *DB) Epoch(ctx context.Context, topic, topicID string) (int64, error) {
	var epoch int64
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		var known string
		found, err := c.get(ctx, findTopic, []any{topic}, &known, &epoch)
		switch {
		case err != nil, found && known == topicID:
			return err
		case found:
			epoch++
		}
		return c.exec(ctx, setTopic, topic, topicID, epoch)
	})
	if err != nil {
		return 0, fmt.Errorf("epoch of topic %s: %w", topic, err)
	}
	return epoch, nil
}

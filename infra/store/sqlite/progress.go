package sqlite

import (
	"context"
	"fmt"

	"millrace/events"
)

const (
	progressOf      = `SELECT partition, seq FROM progress WHERE handler = ?`
	advanceProgress = `INSERT INTO progress (handler, partition, seq) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq`
)

const progressOfHandlers = `
-- Per partition, up to where the work of a handler is in the store. The storage handler has positions.
CREATE TABLE progress (
	handler   TEXT NOT NULL,
	partition INTEGER NOT NULL,
	seq       INTEGER NOT NULL,
	PRIMARY KEY (handler, partition)
) STRICT, WITHOUT ROWID;
`

// Progress returns, by partition, the position up to which the handler is done with everything.
func (db *DB) Progress(ctx context.Context, handler string) (map[int32]int64, error) {
	progress, err := db.seqs(ctx, progressOf, handler)
	if err != nil {
		return nil, fmt.Errorf("progress of %s: %w", handler, err)
	}
	return progress, nil
}

// AdvanceProgress notes that the handler is done with everything up to the position.
func (db *DB) AdvanceProgress(ctx context.Context, handler string, done events.Position) error {
	err := db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		return c.exec(ctx, advanceProgress, handler, done.Partition, done.Seq)
	})
	if err != nil {
		return fmt.Errorf("advance progress of %s: %w", handler, err)
	}
	return nil
}

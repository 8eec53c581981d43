package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// BenchmarkSaveBatchAgainstRawInserts compares SaveBatch with the same messages inserted into the same tables by statements of many
// rows, which recognise no repeats, advance no positions and know the conversations beforehand. They take turns. The share is how
// much of SaveBatch's time the raw inserts need.
func BenchmarkSaveBatchAgainstRawInserts(b *testing.B) {
	const size = 512
	for _, conversations := range []int{50, 100_000} {
		b.Run(fmt.Sprintf("conversations=%d", conversations), func(b *testing.B) {
			saved, raw := open(b, filepath.Join(b.TempDir(), "saved.db")), open(b, filepath.Join(b.TempDir(), "raw.db"))
			seqs := make(map[int32]int64)
			text := strings.Repeat("x", 100)
			var saving, inserting time.Duration
			sent := 0
			for b.Loop() {
				batch := make([]events.Record, size)
				for i := range batch {
					batch[i] = record(seqs, int64(sent*7919%conversations), sent, text)
					sent++
				}
				begin := time.Now()
				for _, err := range saved.SaveBatch(b.Context(), batch) {
					require.NoError(b, err)
				}
				saving += time.Since(begin)
				begin = time.Now()
				require.NoError(b, raw.insertAll(b.Context(), batch))
				inserting += time.Since(begin)
			}
			b.ReportMetric(saving.Seconds()*1e6/float64(sent), "µs/message/SaveBatch")
			b.ReportMetric(inserting.Seconds()*1e6/float64(sent), "µs/message/raw")
			b.ReportMetric(inserting.Seconds()/saving.Seconds(), "share")
		})
	}
}

// insertAll inserts the messages, of which there are a multiple of 64.
func (db *DB) insertAll(ctx context.Context, batch []events.Record) error {
	const rows = 64
	values := func(row string) string { return strings.TrimSuffix(strings.Repeat(row+",", rows), ",") }
	insertMessages := `INSERT INTO messages (conversation_id, seq, id, client_id, sender, type, sent_at, recalled, edited_at,
		change_seq, content) VALUES ` + values("(?,?,?,?,?,?,?,0,0,0,?)")
	return db.writer.within(ctx, func(ctx context.Context, c *conn) error {
		for ; len(batch) > 0; batch = batch[rows:] {
			var messages []any
			for _, r := range batch[:rows] {
				m := r.Message
				conversation := (m.From + 1) / 2 // see record
				messages = append(messages, conversation, r.Seq, idValue(m.MessageID), idValue(m.ClientMsgID), m.From, m.MessageType,
					m.Timestamp, m.Content)
			}
			if _, err := c.ExecContext(ctx, insertMessages, messages...); err != nil {
				return err
			}
		}
		return nil
	})
}

package audit

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// BenchmarkHandleBatch measures what a record costs in a batch of 64, without the syncs.
func BenchmarkHandleBatch(b *testing.B) {
	a := New(Config{Path: filepath.Join(b.TempDir(), "audit.log")}, slog.New(slog.DiscardHandler))
	a.Start()
	defer func() { require.NoError(b, a.Close()) }()
	records := make([]events.Record, 64)
	for i := range records {
		m := &events.Message{MessageID: fmt.Sprintf("%022d", i), Conversation: "u:1001:1002", From: 1001, To: 1002}
		records[i].Event = events.Event{Type: events.NewMessage, Message: m, Timestamp: 1642678800}
	}
	b.ReportAllocs()
	for seq := int64(0); b.Loop(); {
		entries := make([]entry, len(records))
		for i := range records {
			seq++
			records[i].Seq = seq
			entries[i] = a.entry(&records[i])
		}
		_, err := a.journal.append(entries)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
}

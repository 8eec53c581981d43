package mongo

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/store/mongo/mongotest"
)

// syncBuffer is written to by the driver's goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// What the driver logs when its environment variables ask for it goes into the log of the process.
func TestDriverWritesIntoTheLogOfTheProcess(t *testing.T) {
	server := mongotest.Start(t)
	t.Setenv("MONGODB_LOG_ALL", "debug")
	var log syncBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	require.NoError(t, opened(t, server.Database(t)).Ping(t.Context()))
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Greater(t, len(lines), 10)
	for _, line := range lines {
		var record struct{ Level, Msg, Library string }
		require.NoError(t, json.Unmarshal([]byte(line), &record), line)
		require.Equal(t, "mongo", record.Library, line)
		require.NotEmpty(t, record.Msg, line)
	}
}

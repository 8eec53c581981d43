package mongo

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/store/mongo/mongotest"
)

// What the driver logs when its environment variables ask for it goes into the log of the process.
func TestDriverWritesIntoTheLogOfTheProcess(t *testing.T) {
	server := mongotest.Start(t)
	t.Setenv("MONGODB_LOG_ALL", "debug")
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	db, err := open(t.Context(), server.Database(t))
	require.NoError(t, err)
	require.NoError(t, db.Ping(t.Context()))
	require.NoError(t, db.Close()) // after that the driver writes no more
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Greater(t, len(lines), 10)
	for _, line := range lines {
		var record struct{ Level, Msg, Library string }
		require.NoError(t, json.Unmarshal([]byte(line), &record), line)
		require.Equal(t, "mongo", record.Library, line)
		require.NotEmpty(t, record.Msg, line)
	}
}

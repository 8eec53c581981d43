package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// Before there were cuts, a file knew only the id of a topic and its epoch.
func TestFileFromBeforeThereWereCutsKeepsItsEpochs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "millrace.db")
	old, err := sql.Open("sqlite", writerDSN(path))
	require.NoError(t, err)
	before := migrations()[:4]
	for _, statement := range append(before,
		"INSERT INTO topics (name, id, epoch) VALUES ('message-events', 'first', 3)",
		fmt.Sprintf("PRAGMA user_version = %d", len(before))) {
		_, err := old.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	require.NoError(t, old.Close())

	db := open(t, path)
	got, err := db.Epochs(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.Equal(t, events.Epochs{TopicID: "first", First: 3}, got)
	set, err := db.SetEpochs(t.Context(), events.TopicMessages, events.Epochs{TopicID: "second", First: 4, Version: 1})
	require.NoError(t, err)
	require.True(t, set)
}

package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// upgraded opens a file that was made at a version and then got what the statements insert.
func upgraded(t *testing.T, version int, statements ...string) *DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millrace.db")
	old, err := sql.Open("sqlite", writerDSN(path))
	require.NoError(t, err)
	for _, statement := range slices.Concat(migrations()[:version], statements, []string{fmt.Sprintf("PRAGMA user_version = %d", version)}) {
		_, err := old.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	require.NoError(t, old.Close())
	return open(t, path)
}

// Before there were cuts, a file knew only the id of a topic and its epoch.
func TestFileFromBeforeThereWereCutsKeepsItsEpochs(t *testing.T) {
	db := upgraded(t, 4, "INSERT INTO topics (name, id, epoch) VALUES ('message-events', 'first', 3)")
	got, err := db.Epochs(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.Equal(t, events.Epochs{TopicID: "first", First: 3}, got)
	set, err := db.SetEpochs(t.Context(), events.TopicMessages, events.Epochs{TopicID: "second", First: 4, Version: 1})
	require.NoError(t, err)
	require.True(t, set)
}

// The ids of messages were once in a table of their own.
func TestMessageOfAnOlderFileIsFoundByItsID(t *testing.T) {
	r := newMessage(2, 7)
	m := r.Message
	id, ok := idValue(m.MessageID).([]byte)
	require.True(t, ok)
	db := upgraded(t, 18,
		fmt.Sprintf("INSERT INTO conversations (id, name, partition, last_seq, active_at) VALUES (1, '%s', %d, 7, 7)", m.Conversation, r.Partition),
		fmt.Sprintf(`INSERT INTO messages (conversation_id, seq, id, client_id, sender, type, sent_at, recalled, edited_at, change_seq, content)
			VALUES (1, 7, x'%x', '7', 1, 1, 7, 0, 0, 0, 'text')`, id),
		fmt.Sprintf("INSERT INTO message_ids (id, conversation_id, seq) VALUES (x'%x', 1, 7)", id))

	key := store.MessageKey{Conversation: m.Conversation, MessageID: m.MessageID}
	sent, err := db.SentAt(t.Context(), []store.MessageKey{key})
	require.NoError(t, err)
	require.Equal(t, map[store.MessageKey]int64{key: 7}, sent)
	r.Seq = 9 // a repeat
	require.Equal(t, []error{nil}, db.SaveBatch(t.Context(), []events.Record{r}))
	page, _, err := db.History(t.Context(), m.Conversation, store.Page{Newest: true, Limit: 10})
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.EqualValues(t, 7, page[0].Seq)
}

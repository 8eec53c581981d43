package audit

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *Audit {
	t.Helper()
	a, err := Open(Config{Path: path})
	require.NoError(t, err)
	return a
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func record(partition int32, seq int64) events.Record {
	return events.Record{
		Event: events.Event{Type: events.NewMessage, Timestamp: 1642678800, Message: &events.Message{
			MessageID: "m", Conversation: "u:1:2", From: 1, To: 2, Content: "secret",
		}},
		Position: events.Position{Partition: partition, Seq: seq},
	}
}

func TestLineTellsWhoDidWhatWhereWithoutTheContent(t *testing.T) {
	tests := map[string]struct {
		event events.Event
		want  string
	}{
		"message": {
			record(0, 1).Event,
			`{"when":1642678800,"who":1,"type":"new_message","conversation":"u:1:2","message_id":"m","partition":3,"seq":7}`,
		},
		"edit": {
			events.Event{Type: events.MessageEdited, Conversation: "u:1:2", MessageID: "m", MessageSeq: 5, By: 2, Content: "secret", Timestamp: 9},
			`{"when":9,"who":2,"type":"message_edited","conversation":"u:1:2","message_id":"m","partition":3,"seq":7}`,
		},
		"read": {
			events.Event{Type: events.MessageRead, Conversation: "u:1:2", User: 2, MessageSeq: 5, Timestamp: 9},
			`{"when":9,"who":2,"type":"message_read","conversation":"u:1:2","partition":3,"seq":7}`,
		},
		"join": {
			events.Event{Type: events.MemberJoined, Conversation: "g:4", GroupID: 4, User: 2, By: 1, Timestamp: 9},
			`{"when":9,"who":1,"type":"member_joined","conversation":"g:4","partition":3,"seq":7}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "deep", "audit.log")
			a := open(t, path)
			r := events.Record{Event: test.event, Position: events.Position{Partition: 3, Seq: 7}}
			require.NoError(t, a.Handler().Handle(t.Context(), r))
			require.Equal(t, []string{test.want}, lines(t, path))
			require.NoError(t, a.Close())
		})
	}
}

func TestRecordThatComesAgainIsWrittenOnceAlsoAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for range 2 {
		a := open(t, path)
		for _, r := range []events.Record{record(0, 1), record(1, 5), record(0, 1), record(0, 2), record(1, 5)} {
			require.NoError(t, a.handle(t.Context(), r))
		}
		require.NoError(t, a.Close())
	}
	require.Len(t, lines(t, path), 3)
}

func TestLineTornByACrashIsCutOffAndWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	require.NoError(t, a.handle(t.Context(), record(0, 1)))
	require.NoError(t, a.handle(t.Context(), record(0, 2)))
	require.NoError(t, a.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	for cut := range len(whole) {
		require.NoError(t, os.WriteFile(path, whole[:cut], 0o600))
		a = open(t, path)
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, len(kept) == 0 || kept[len(kept)-1] == '\n', "cut at %d", cut)
		require.NoError(t, a.handle(t.Context(), record(0, 1)))
		require.NoError(t, a.handle(t.Context(), record(0, 2)))
		require.NoError(t, a.Close())
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(whole), string(got), "cut at %d", cut)
	}
}

func TestWriteThatFailedHalfwayLeavesNothingBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	_, err := a.file.WriteAt([]byte(`{"when":12`), a.size)
	require.NoError(t, err)
	require.NoError(t, a.handle(t.Context(), record(0, 1)))
	require.NoError(t, a.Close())
	a = open(t, path)
	require.Equal(t, map[int32]int64{0: 1}, a.highest)
	require.NoError(t, a.Close())
}

func TestPartitionsAppendSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	var writing sync.WaitGroup
	for partition := range int32(8) {
		writing.Go(func() {
			for seq := range int64(20) {
				assert.NoError(t, a.handle(t.Context(), record(partition, seq+1)))
			}
		})
	}
	writing.Wait()
	require.NoError(t, a.Close())
	require.Len(t, lines(t, path), 160)
	a = open(t, path)
	require.Len(t, a.highest, 8)
	for partition, seq := range a.highest {
		require.Equal(t, int64(20), seq, partition)
	}
	require.NoError(t, a.Close())
}

func TestLogThatCannotBeUsedIsAnErrorInWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	_, err := Open(Config{Path: path})
	require.ErrorContains(t, err, "in use by another process")
	require.NoError(t, a.handle(t.Context(), record(0, 1)))
	require.NoError(t, a.Close())
	require.Error(t, a.handle(t.Context(), record(0, 2)))

	require.NoError(t, os.WriteFile(path, []byte("{}\nnonsense\n{}\n"), 0o600))
	_, err = Open(Config{Path: path})
	require.ErrorContains(t, err, "line at byte 3")
}

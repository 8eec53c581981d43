package audit

import (
	"log/slog"
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
	a := New(Config{Path: path}, slog.New(slog.DiscardHandler))
	a.Start()
	require.NoError(t, a.journal.ready())
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// write makes the handler handle the records as one batch.
func write(t *testing.T, a *Audit, records ...events.Record) {
	t.Helper()
	for _, err := range a.handleBatch(t.Context(), records) {
		require.NoError(t, err)
	}
}

// lines returns the entries in the file, without what chains them.
func lines(t *testing.T, path string) (entries []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, `{"continues":`) {
			entry, _, chained := strings.Cut(line, `,"n":`)
			require.True(t, chained)
			entries = append(entries, entry+"}")
		}
	}
	return entries
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
		write(t, a, record(0, 1), record(1, 5), record(0, 1), record(0, 2), record(1, 5))
		require.NoError(t, a.Close())
	}
	require.Len(t, lines(t, path), 3)
}

func TestIncompleteLastLineIsCutOffAndWrittenAgain(t *testing.T) {
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
	_, err := a.journal.file.WriteAt([]byte(`{"when":12`), a.journal.size)
	require.NoError(t, err)
	write(t, a, record(0, 1))
	require.NoError(t, a.Close())
	a = open(t, path)
	require.Equal(t, map[int32]int64{0: 1}, a.journal.known.highest)
}

func TestPartitionsAppendSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	var writing sync.WaitGroup
	for partition := range int32(8) {
		writing.Go(func() {
			for seq := int64(1); seq <= 20; seq += 2 {
				for _, err := range a.handleBatch(t.Context(), []events.Record{record(partition, seq), record(partition, seq+1)}) {
					assert.NoError(t, err)
				}
			}
		})
	}
	writing.Wait()
	require.NoError(t, a.Close())
	require.Len(t, lines(t, path), 160)
	a = open(t, path)
	require.Len(t, a.journal.known.highest, 8)
	for partition, seq := range a.journal.known.highest {
		require.Equal(t, int64(20), seq, partition)
	}
}

func TestFileIsReadOnceHoweverManyPartitionsAppendToItAtOnce(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "audit.log"))
	file := a.journal.file
	var wg sync.WaitGroup
	for partition := range int32(16) {
		wg.Go(func() {
			for seq := range int64(200) {
				_, err := a.journal.append([]entry{&place{Partition: partition, Seq: seq + 1}})
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.Same(t, file, a.journal.file, "the file that was appended to did not look truncated to anybody")
}

func TestBatchIsOneWriteAndOneSync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	write(t, a, record(0, 1), record(0, 2), record(0, 3))
	require.Len(t, lines(t, path), 3)
	require.Equal(t, a.journal.written, a.journal.synced, "all of it is on the disk")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, info.Size(), a.journal.written)
}

func TestReplayIsWrittenOutOfTurnAndMarkedAndOnceAlsoAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	replay := record(0, 2)
	replay.Replay = true
	a := open(t, path)
	write(t, a, record(0, 1), record(0, 3))
	write(t, a, replay)
	write(t, a, replay)
	require.NoError(t, a.Close())
	a = open(t, path)
	write(t, a, replay)
	write(t, a, record(0, 3), record(0, 4))
	got := lines(t, path)
	require.Len(t, got, 4)
	require.Contains(t, got[2], `"seq":2,"replayed":true`)
	require.Contains(t, got[3], `"seq":4}`)
}

// logrotate either moves or deletes the file and makes a new one or none, or copies the file and truncates it.
func TestFileThatWasMovedDeletedOrCutIsNoticedWithTheNextBatch(t *testing.T) {
	for name, rotate := range map[string]func(t *testing.T, path string){
		"moved": func(t *testing.T, path string) { require.NoError(t, os.Rename(path, path+".1")) },
		"moved, and a new one made": func(t *testing.T, path string) {
			require.NoError(t, os.Rename(path, path+".1"))
			require.NoError(t, os.WriteFile(path, nil, 0o600))
		},
		"deleted":             func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"deleted with folder": func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(filepath.Dir(path))) },
		"cut":                 func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "logs", "audit.log")
			a := open(t, path)
			write(t, a, record(0, 1), record(0, 2))
			rotate(t, path)
			write(t, a, record(0, 2), record(0, 3))
			write(t, a, record(0, 4))
			got := lines(t, path)
			require.Len(t, got, 2, "what the old file has is not written again")
			require.Contains(t, got[0], `"seq":3}`)
			require.Contains(t, got[1], `"seq":4}`)
			require.NoError(t, a.Close())
			a = open(t, path)
			require.Equal(t, map[int32]int64{0: 4}, a.journal.known.highest)
		})
	}
}

func TestReopenGoesOnWithTheFileThatIsThereNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	write(t, a, record(0, 1))
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, a.Handler().Reopen())
	require.FileExists(t, path)
	write(t, a, record(0, 2))
	require.Len(t, lines(t, path), 1)
	require.Len(t, lines(t, path+".1"), 1)
}

func TestLogThatCannotBeUsedFailsItsRecordsUntilItIsMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	require.NoError(t, os.WriteFile(path, []byte("{}\nnonsense\n{}\n"), 0o600))
	a := New(Config{Path: path}, slog.New(slog.DiscardHandler))
	a.Start()
	h := a.Handler()
	require.ErrorContains(t, h.Ready(), "line at byte 3")
	for range 2 {
		err := h.Handle(t.Context(), record(0, 1))
		require.ErrorContains(t, err, "line at byte 3")
		require.False(t, events.IsPermanent(err), "nothing is wrong with the record")
	}
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	write(t, a, record(0, 1))
	require.NoError(t, h.Ready())

	other := New(Config{Path: path}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, other.handle(t.Context(), record(0, 2)), "in use by another process")
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.handle(t.Context(), record(0, 2)), os.ErrClosed)
	write(t, other, record(0, 1), record(0, 2))
	require.Len(t, lines(t, path), 2, "who takes over goes on")
	require.NoError(t, other.Close())
}

package audit

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rotating returns the path of a log of lines 1 to 12, in three files of three records and one of two, each file but the first
// with a line that continues the one before.
func rotating(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	a := New(Config{Path: path, MaxSize: 500}, slog.New(slog.DiscardHandler))
	for seq := range int64(9) {
		write(t, a, record(0, seq+1))
	}
	require.NoError(t, a.Close())
	return path
}

func TestLogIsRotatedBySizeAndEachRecordIsInItOnceAlsoAfterRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var wrote []string
	replay := record(1, 2)
	replay.Replay = true
	for seq := range int64(20) {
		a := New(Config{Path: path, MaxSize: 500}, slog.New(slog.DiscardHandler))
		write(t, a, record(0, 1), record(1, 3), replay, record(0, seq), record(0, seq+1))
		require.NoError(t, a.Close())
		if seq%3 == 0 { // as if the process had ended right after it had rotated
			require.NoError(t, os.Rename(path, fmt.Sprintf("%s.%012d", path, a.journal.chain.number)))
		}
	}
	files, err := rotated(path)
	require.NoError(t, err)
	require.Greater(t, len(files), 5)
	for _, file := range append(files, path) {
		wrote = append(wrote, lines(t, file)...)
	}
	require.Len(t, wrote, 20+1+1)
	require.Contains(t, strings.Join(wrote, ""), `"partition":1,"seq":2,"replayed":true`)
	slices.Sort(wrote)
	require.Len(t, slices.Compact(wrote), 20+1+1)
	v, err := Verify("", path)
	require.NoError(t, err)
	require.Equal(t, v.Lines, v.Last)
	require.Equal(t, len(files)+1, v.Files)
}

func TestRotationNeverReplacesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := New(Config{Path: path, MaxSize: 1}, slog.New(slog.DiscardHandler))
	write(t, a, record(0, 1))
	inTheWay := path + ".000000000001"
	require.NoError(t, os.WriteFile(inTheWay, []byte("kept"), 0o600))
	require.ErrorIs(t, a.handle(t.Context(), record(0, 2)), os.ErrExist)
	require.NoError(t, os.Remove(inTheWay))
	write(t, a, record(0, 2))
	require.NoError(t, a.Close())
	require.Len(t, lines(t, path), 1)
	require.Len(t, lines(t, inTheWay), 1)
}

func TestVerifyTellsTheFirstLineThatDoesNotFit(t *testing.T) {
	for name, test := range map[string]struct {
		tamper func(t *testing.T, path string, files [][]string)
		want   string // after the directory; empty: nothing is wrong
	}{
		"nothing": {func(*testing.T, string, [][]string) {}, ""},
		"a line was changed": {func(_ *testing.T, _ string, files [][]string) {
			files[1][2] = strings.Replace(files[1][2], `"who":1`, `"who":2`, 1)
		}, "audit.log.000000000006: line 3: its hash is wrong"},
		"a line and its hash were changed": {func(t *testing.T, _ string, files [][]string) {
			forged := strings.Replace(files[1][1], `"who":1`, `"who":2`, 1)
			l, err := parseLine([]byte(forged))
			require.NoError(t, err)
			before, err := parseLine([]byte(files[1][0]))
			require.NoError(t, err)
			files[1][1] = strings.Replace(forged, l.Hash, chain{hash: before.Hash}.hashOf(l.body), 1)
		}, "audit.log.000000000006: line 3: its hash is wrong: it was changed, or what comes before it"},
		"a line is missing": {func(_ *testing.T, _ string, files [][]string) {
			files[0] = slices.Delete(files[0], 1, 2)
		}, "audit.log.000000000003: line 2: it has number 3 and comes after number 1: what lay between is missing"},
		"two lines changed places": {func(_ *testing.T, _ string, files [][]string) {
			files[1][1], files[1][2] = files[1][2], files[1][1]
		}, "audit.log.000000000006: line 2: it has number 6 and comes after number 4: it is out of order, number 5 comes later"},
		"a line is there twice": {func(_ *testing.T, _ string, files [][]string) {
			files[1] = append(files[1], files[1][1])
		}, "audit.log.000000000006: line 4: it has number 5 and comes after number 6: it is out of order, or there twice"},
		"a line lost its hash": {func(_ *testing.T, _ string, files [][]string) {
			files[0][1], _, _ = strings.Cut(files[0][1], `,"n":`)
			files[0][1] += "}\n"
		}, "audit.log.000000000003: line 2: it has no hash: it was changed, or put in after number 1"},
		"the beginning lost its hashes": {func(_ *testing.T, _ string, files [][]string) {
			files[0][0], _, _ = strings.Cut(files[0][0], `,"n":`)
			files[0][0] += "}\n"
		}, "audit.log.000000000003: line 2: it has number 2 and comes after number 0: what lay between is missing"},
		"the end of a file between was cut off": {func(_ *testing.T, _ string, files [][]string) {
			files[1] = files[1][:1]
		}, "audit.log.000000000009: line 1: it has number 7 and comes after number 4: what lay between is missing"},
		"a file between was cut off within a line": {func(_ *testing.T, _ string, files [][]string) {
			files[1][2] = files[1][2][:30]
		}, "audit.log.000000000006: line 3: it is cut off"},
		"garbage": {func(_ *testing.T, _ string, files [][]string) {
			files[1][2] = "garbage\n"
		}, "audit.log.000000000006: line 3: it is no line of the log"},
		"a file between is gone": {func(t *testing.T, path string, files [][]string) {
			files[1] = nil
			require.NoError(t, os.Remove(path+".000000000006"))
		}, "audit.log.000000000009: line 1: it has number 7 and comes after number 3: what lay between is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			path := rotating(t)
			names, err := rotated(path)
			require.NoError(t, err)
			names = append(names, path)
			var files [][]string
			for _, name := range names {
				data, err := os.ReadFile(name)
				require.NoError(t, err)
				files = append(files, slices.Collect(strings.Lines(string(data))))
			}
			test.tamper(t, path, files)
			for i, name := range names {
				if len(files[i]) > 0 {
					require.NoError(t, os.WriteFile(name, []byte(strings.Join(files[i], "")), 0o600))
				}
			}
			v, err := Verify("", path)
			if test.want == "" {
				require.NoError(t, err)
				require.Equal(t, int64(12), v.Last)
				return
			}
			var broken *BrokenError
			require.ErrorAs(t, err, &broken)
			require.Contains(t, err.Error(), filepath.Join(filepath.Dir(path), test.want))
		})
	}
}

func TestVerifyCannotSeeThatTheEndIsGoneWithoutAHashFromBefore(t *testing.T) {
	path := rotating(t)
	whole, err := Verify("", path)
	require.NoError(t, err)
	known, err := Verify(whole.Hash, path)
	require.NoError(t, err)
	require.True(t, known.Found)

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	end := strings.LastIndex(strings.TrimSuffix(string(data), "\n"), "\n") + 1
	require.NoError(t, os.WriteFile(path, data[:end+10], 0o600))
	cut, err := Verify(whole.Hash, path)
	require.NoError(t, err)
	require.True(t, cut.Partial)
	require.False(t, cut.Found)
	require.Equal(t, whole.Last-1, cut.Last)
}

func TestVerifyBeginsWhereTheOldestFileThatIsThereBegins(t *testing.T) {
	path := rotating(t)
	names, err := rotated(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(names[0]))
	v, err := Verify("", path)
	require.NoError(t, err)
	require.Equal(t, int64(4), v.First)
	require.Equal(t, int64(12), v.Last)
	v, err = Verify("", names[1], names[2])
	require.NoError(t, err)
	require.Equal(t, int64(9), v.Last)
}

func TestLogThatLosesItsEndWhileItIsWrittenShowsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := open(t, path)
	write(t, a, record(0, 1), record(0, 2), record(0, 3))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, int64(strings.Index(string(data), "\n")+1)))
	write(t, a, record(0, 4))
	_, err = Verify("", path)
	require.ErrorContains(t, err, "line 2: it has number 4 and comes after number 1: what lay between is missing")
}

func TestLogFromBeforeThereWereHashesGoesOn(t *testing.T) {
	older := []string{
		`{"when":1642678800,"who":1,"type":"new_message","conversation":"u:1:2","message_id":"m","partition":0,"seq":1}` + "\n",
		`{"when":1642678800,"who":1,"type":"new_message","conversation":"u:1:2","message_id":"m","partition":0,"seq":2}` + "\n",
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(older, "")), 0o600))
	for range 2 {
		a := open(t, path)
		write(t, a, record(0, 1), record(0, 2), record(0, 3))
		require.NoError(t, a.Close())
	}
	v, err := Verify("", path)
	require.NoError(t, err)
	require.Equal(t, int64(3), v.Lines)
	require.Equal(t, int64(2), v.Older)
	require.Equal(t, int64(1), v.Last)

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(data), `"who":1`, `"who":2`, 1)), 0o600))
	_, err = Verify("", path)
	require.ErrorContains(t, err, "line 3: its hash is wrong: it was changed, or what comes before it")

	// An old log that is full is rotated, and the next file continues it.
	require.NoError(t, os.WriteFile(path, data[:len(older[0])+len(older[1])], 0o600))
	a := New(Config{Path: path, MaxSize: 1}, slog.New(slog.DiscardHandler))
	write(t, a, record(0, 2), record(0, 3))
	write(t, a, record(0, 4))
	require.NoError(t, a.Close())
	v, err = Verify("", path)
	require.NoError(t, err)
	require.Equal(t, Verified{Files: 2, Lines: 5, Older: 2, First: 1, Last: 3, Hash: a.journal.chain.hash}, v)
}

func FuzzLine(f *testing.F) {
	l := newLinks()
	require.NoError(f, l.add(newMessageEntry(new(record(3, 7)))))
	f.Add(l.text.String())
	f.Add(`{"continues":"ab","highest":{"0":7},"replays":["1:2"],"n":3,"hash":"cd"}`)
	f.Add(`{"when":1,"hash":"` + "\n")
	f.Fuzz(func(t *testing.T, data string) {
		l, err := parseLine([]byte(data))
		if err != nil {
			return
		}
		require.True(t, strings.HasPrefix(data, string(l.body)))
		if l.Hash != "" {
			require.Equal(t, strings.TrimSuffix(data, "\n"), string(l.body)+hashBegin+l.Hash+hashEnd)
		}
		k := newKnown()
		_ = k.addLine(&l) // must not panic
	})
}

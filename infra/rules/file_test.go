package rules

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/hook"
)

const (
	first  = "rules: [{name: one, when: 'rate(\"1m\") > 2', reject: one}, {name: gone, when: 'edit', tag: x}]"
	second = "rules: [{name: one, when: 'rate(\"1m\") > 2', reject: two}]"
)

func prepared(*Set) error { return nil }

// open opens the file. look has to be called for it to be read again.
func open(t *testing.T, path string) (f *File, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	f, err := Open(path, prepared, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	return f, log
}

// reason returns why the third message in a minute is rejected, which tells the rules apart.
func reason(t *testing.T, f *File) string {
	t.Helper()
	verdicts, err := f.Review(t.Context(), []hook.Draft{subject().Draft, subject().Draft, subject().Draft})
	require.NoError(t, err)
	return verdicts[2].Reject
}

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestAChangedFileIsTakenAndAWrongOneLeavesTheFormerRules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, first)
	f, log := open(t, path)
	require.Equal(t, "one", reason(t, f))
	for name, spoil := range map[string]func(){
		"wrong": func() { write(t, path, "rules: [{name: one, wen: x}]") },
		"empty": func() { write(t, path, "") },
		"gone":  func() { require.NoError(t, os.Remove(path)) },
	} {
		log.Reset()
		spoil()
		f.look()
		f.look()
		require.Equal(t, "one", reason(t, f), name)
		require.Zero(t, testutil.ToFloat64(f.valid), name)
		require.Contains(t, f.State().Fault, path, name)
		require.Equal(t, "one", f.State().Rules[0].Name, name)
		require.Equal(t, 1, strings.Count(log.String(), "the former ones hold"), "said once")
		write(t, path, first)
		f.look()
		require.EqualValues(t, 1, testutil.ToFloat64(f.valid), name)
		require.Empty(t, f.State().Fault, name)
	}
	write(t, path, second)
	f.look()
	verdicts, err := f.Review(t.Context(), []hook.Draft{subject().Draft})
	require.NoError(t, err)
	require.Equal(t, "two", verdicts[0].Reject, "what was sent before still counts")
}

// A ConfigMap is a directory behind a symbolic link that is replaced, and the file a link through it.
func TestAFileBehindASwappedLinkIsTaken(t *testing.T) {
	dir := t.TempDir()
	for version, content := range map[string]string{"v1": first, "v2": second} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "rules.yaml"), content)
	}
	require.NoError(t, os.Symlink("v1", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink(filepath.Join("..data", "rules.yaml"), filepath.Join(dir, "rules.yaml")))
	synctest.Test(t, func(t *testing.T) {
		f, err := Open(filepath.Join(dir, "rules.yaml"), prepared, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		require.Equal(t, "one", reason(t, f))
		require.NoError(t, os.Symlink("v2", filepath.Join(dir, "..new")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
		time.Sleep(lookPause + 1)
		synctest.Wait()
		require.Equal(t, "two", reason(t, f))
		cancel()
		require.NoError(t, <-done)
	})
}

func TestEachRuleIsCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, first)
	f, _ := open(t, path)
	require.Equal(t, 2, testutil.CollectAndCount(f.matched), "also those that have not matched yet")
	reason(t, f)
	require.EqualValues(t, 1, testutil.ToFloat64(f.matched.WithLabelValues("one")))
	require.Zero(t, testutil.ToFloat64(f.matched.WithLabelValues("gone")))
	write(t, path, "rules: [{name: odd, when: 'extra.x > 1', tag: x}]")
	f.look()
	reason(t, f)
	require.EqualValues(t, 3, testutil.ToFloat64(f.failed.WithLabelValues("odd")))
	require.Equal(t, 1, testutil.CollectAndCount(f.matched), "a rule that is gone is not counted")
}

func TestAWrongFileDoesNotOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	_, err := Open(path, prepared, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, os.ErrNotExist)
	write(t, path, "rules: [{name: one}]")
	_, err = Open(path, prepared, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "line 1: rule one has no when")
}

func TestRulesTakeEffectOnceTheyArePrepared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, first)
	var failing error
	var routes []string
	f, err := Open(path, func(set *Set) error {
		routes = set.Routes()
		return failing
	}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)

	failing = errors.New("no brokers")
	write(t, path, "rules: [{name: two, when: 'true', route: vip}]")
	f.look()
	require.Equal(t, "one", reason(t, f), "the former rules hold")
	require.Zero(t, testutil.ToFloat64(f.valid))
	require.Equal(t, []string{"vip"}, routes)
	failing = nil
	f.look()
	verdicts, err := f.Review(t.Context(), []hook.Draft{subject().Draft})
	require.NoError(t, err)
	require.Equal(t, []string{"vip"}, verdicts[0].Routes)
	require.EqualValues(t, 1, testutil.ToFloat64(f.valid))

	failing = errors.New("no brokers")
	_, err = Open(path, func(*Set) error { return failing }, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, failing)
}

func TestStateTellsTheRulesAndWhatTheyHaveDone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, "rules: [{name: one, when: 'from == 1', tag: x}, {name: two, when: 'extra.age > 17', reject: no}, "+
		"{name: three, when: 'edit', replace: {with: y}}, {name: four, when: 'edit', route: z}, {name: five, when: 'edit', notify: z}, "+
		"{name: six, when: 'edit', recall: z}]\n"+
		"floods: [{name: seven, when: 'to == 2', more_than: 1, within: 5s, recall: z}]")
	begin := time.Now()
	f, _ := open(t, path)
	_, err := f.Review(t.Context(), []hook.Draft{{Message: &events.Message{From: 1}}, {Message: &events.Message{From: 2}}})
	require.NoError(t, err)
	state := f.State()
	require.Equal(t, path, state.Path)
	require.WithinRange(t, state.Loaded, begin, time.Now())
	require.Equal(t, []RuleState{
		{"one", "from == 1", "tag", 1, 0},
		{"two", "extra.age > 17", "reject", 0, 2},
		{"three", "edit", "replace", 0, 0},
		{"four", "edit", "route", 0, 0},
		{"five", "edit", "notify", 0, 0},
		{"six", "edit", "recall", 0, 0},
		{"seven", "more than 1 within 5s per sender, where to == 2", "recall", 0, 0},
	}, state.Rules)
}

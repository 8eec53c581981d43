package proof

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/millrace/proof/oracle"
)

// figures compares what the handlers beside storage and push have made of the log with what was accepted.
type figures struct {
	c        *cluster
	receiver *receiver
	journal  *oracle.Journal
	// forgotten is how many messages a series of analytics may lack, because the store was put back after it had counted them.
	forgotten map[string]int
}

// await waits until the first versions of the handlers have everything that was accepted, once.
func (f *figures) await(ctx context.Context) error {
	return f.until(ctx, func() []string {
		accepted := f.journal.Acknowledged()
		wrong := f.audit(ctx, "audit", accepted, accepted)
		wrong = append(wrong, f.analytics(ctx, 1, len(accepted), len(accepted))...)
		if lacking := f.receiver.lacks(accepted); len(lacking) > 0 {
			wrong = append(wrong, fmt.Sprintf("webhook: the receiver lacks %d messages, such as %s", len(lacking), lacking[0]))
		}
		return wrong
	})
}

// awaitRecount waits until the second versions have everything that the log has now, and nothing that was not accepted.
func (f *figures) awaitRecount(ctx context.Context, logged map[string]bool) error {
	accepted := f.journal.Acknowledged()
	return f.until(ctx, func() []string {
		return append(f.audit(ctx, "audit-v2", logged, accepted), f.analytics(ctx, 2, len(logged), len(accepted))...)
	})
}

// judge waits until the handlers have everything, and requires that there is nothing else.
func (f *figures) judge(ctx context.Context) {
	t := f.c.t
	t.Helper()
	require.NoError(t, f.await(ctx))
	log, err := readLog(ctx, f.c.log)
	require.NoError(t, err)
	require.Empty(t, log.broken)
	t.Logf("the log has %d events; %d messages are tagged", len(log.events), log.tagged)
	require.NoError(t, f.awaitRecount(ctx, log.messages))
	require.NoError(t, f.until(ctx, func() []string { return f.receiver.lacks(log.events) }), "the receiver lacks events")
	f.receiver.requireOrder()
}

// until waits until nothing is wrong.
func (f *figures) until(ctx context.Context, check func() []string) error {
	var wrong []string
	for begin := time.Now(); time.Since(begin) < Healing && ctx.Err() == nil; Wait(ctx, sendEvery) {
		if wrong = check(); len(wrong) == 0 {
			return nil
		}
	}
	return fmt.Errorf("after %s: %s", Healing, strings.Join(wrong, "; "))
}

// audit checks that the log verifies and has each message that it must have once, and none but these.
func (f *figures) audit(ctx context.Context, name string, must, may map[string]bool) (wrong []string) {
	path := filepath.Join(f.c.dataDir, name+".log")
	report := func(format string, args ...any) { wrong = append(wrong, name+": "+fmt.Sprintf(format, args...)) }
	if said, err := f.c.runs(ctx, "audit", "verify", path); err != nil {
		report("%v: %s", err, said)
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		report("%v", err)
	}
	times := map[string]int{}
	for line := range bytes.Lines(text) {
		var entry struct {
			Type      events.Type `json:"type"`
			MessageID string      `json:"message_id"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Type == events.NewMessage { // the last line may be being written
			times[entry.MessageID]++
		}
	}
	lacking := 0
	for id := range must {
		if times[id] == 0 {
			lacking++
		}
	}
	if lacking > 0 {
		report("lacks %d of %d messages", lacking, len(must))
	}
	for id, n := range times {
		if n > 1 {
			report("has message %s %d times", id, n)
		}
		if !may[id] {
			report("has message %s, which was not accepted", id)
		}
	}
	return wrong
}

// analytics checks that the version has counted at least and at most so many messages, beyond those that it may have forgotten.
func (f *figures) analytics(ctx context.Context, version, least, most int) []string {
	counted, err := f.c.counted(ctx, version)
	if err != nil {
		return []string{err.Error()}
	}
	least -= f.forgotten[seriesOf(version)]
	if counted < least || counted > most {
		return []string{fmt.Sprintf("%s has counted %d messages, not %d to %d", seriesOf(version), counted, least, most)}
	}
	return nil
}

func seriesOf(version int) string {
	if version == 1 {
		return "analytics"
	}
	return fmt.Sprintf("analytics-v%d", version)
}

// putBack notes that the backup is going to take the place of the store.
func (f *figures) putBack(ctx context.Context, store, backup string) error {
	for _, series := range []string{seriesOf(1), seriesOf(2)} {
		had, err := countedIn(ctx, store, series)
		if err != nil {
			return err
		}
		has, err := countedIn(ctx, backup, series)
		if err != nil {
			return err
		}
		f.forgotten[series] += had - has
	}
	return nil
}

// countedIn returns how many messages the series has counted in a database.
func countedIn(ctx context.Context, path, series string) (n int, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, "SELECT coalesce(sum(messages), 0) FROM buckets WHERE series = ? AND span = 86400", series).Scan(&n)
	return n, errors.Join(err, db.Close())
}

// counted returns how many messages a version of the analytics handler has counted.
func (c *cluster) counted(ctx context.Context, version int) (messages int, err error) {
	node := strings.Replace(c.named("message-1").args[1], "addr", "addrs", 1)
	out, err := c.runs(ctx, "stats", "--json", "--span=day", "--last=2", fmt.Sprint("--version=", version), node)
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	var counted struct {
		Buckets []struct {
			Messages int `json:"messages"`
		} `json:"buckets"`
	}
	if err := json.Unmarshal(out, &counted); err != nil {
		return 0, err
	}
	for _, b := range counted.Buckets {
		messages += b.Messages
	}
	return messages, nil
}

// runs runs a command of millrace and returns what it has printed.
func (c *cluster) runs(ctx context.Context, args ...string) ([]byte, error) {
	path, err := built.path()
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, path, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		out = append(out, exit.Stderr...)
	}
	return out, err
}

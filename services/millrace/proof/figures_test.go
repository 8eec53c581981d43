package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	told     *notified

	// What handlers may lack after losses: messages that audit or the receiver did not have yet when the log lost them, and how
	// many messages a series of analytics did not have yet.
	unaudited, unsent map[string]bool
	uncounted         map[string]int
	copied            map[string]int // how many copies a topic has at least
}

func newFigures(c *cluster, r *receiver, journal *oracle.Journal) *figures {
	return &figures{c: c, receiver: r, journal: journal, unaudited: map[string]bool{}, unsent: map[string]bool{}, uncounted: map[string]int{}, copied: map[string]int{}}
}

// judge waits until the handlers have everything, and requires that they have nothing else.
func (f *figures) judge(ctx context.Context) {
	t := f.c.t
	t.Helper()
	accepted := f.journal.Acknowledged()
	require.NoError(t, f.until(ctx, func() []string {
		wrong := f.audit(ctx, "audit", without(accepted, f.unaudited), accepted)
		wrong = append(wrong, f.analytics(ctx, 1, len(accepted), len(accepted))...)
		return append(wrong, f.webhook(without(accepted, f.unsent))...)
	}))
	f.receiver.requireOrder()
	t.Logf("the handlers have all of %d messages, but for losses: audit %d, analytics %d, webhook %d",
		len(accepted), len(f.unaudited), f.uncounted[seriesOf(1)], len(f.unsent))
}

// judgeRecount waits until the second versions, and the receiver, have everything that the log has, which is as the rules say.
func (f *figures) judgeRecount(ctx context.Context) {
	t := f.c.t
	t.Helper()
	log, err := readLog(ctx, f.c.log)
	require.NoError(t, err)
	require.Empty(t, log.broken)
	accepted := f.journal.Acknowledged()
	require.NoError(t, f.until(ctx, func() []string {
		wrong := f.audit(ctx, "audit-v2", log.messages, accepted)
		wrong = append(wrong, f.analytics(ctx, 2, len(log.messages), len(accepted))...)
		wrong = append(wrong, f.copies(ctx, log)...)
		return append(wrong, f.webhook(log.events)...)
	}))
	t.Logf("the second versions have what the log has: %d events; %d messages are tagged; copies: %v", len(log.events), log.tagged, f.copied)
	for topic, n := range f.copied {
		require.Positive(t, n, topic)
	}
}

// without returns the ids that are not among the others.
func without(ids, others map[string]bool) map[string]bool {
	left := maps.Clone(ids)
	maps.DeleteFunc(left, func(id string, _ bool) bool { return others[id] })
	return left
}

// until waits until nothing is wrong.
func (f *figures) until(ctx context.Context, check func() []string) error {
	var wrong []string
	for begin := time.Now(); time.Since(begin) < Healing && ctx.Err() == nil; Wait(ctx, sendEvery) {
		if wrong = check(); len(wrong) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d things are wrong after %s, such as: %s", len(wrong), Healing, strings.Join(wrong[:min(len(wrong), 5)], "; "))
}

// audit checks that the log verifies and has each message that it must have once, and none but these.
func (f *figures) audit(ctx context.Context, name string, must, may map[string]bool) (wrong []string) {
	report := func(format string, args ...any) { wrong = append(wrong, name+": "+fmt.Sprintf(format, args...)) }
	if said, err := f.c.runs(ctx, "audit", "verify", f.auditFile(name)); err != nil {
		report("%v: %s", err, said)
	}
	times, err := f.audited(name)
	if err != nil {
		report("%v", err)
	}
	for id := range must {
		if times[id] == 0 {
			report("message %s is not in the log", id)
		}
	}
	for id, n := range times {
		if n > 1 {
			report("message %s is in the log %d times", id, n)
		}
		if !may[id] {
			report("message %s is in the log and was not accepted", id)
		}
	}
	return wrong
}

func (f *figures) auditFile(name string) string { return filepath.Join(f.c.dataDir, name+".log") }

// audited returns how often the audit log has each message.
func (f *figures) audited(name string) (times map[string]int, err error) {
	text, err := os.ReadFile(f.auditFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	times = map[string]int{}
	for line := range bytes.Lines(text) {
		var entry struct {
			Type      events.Type `json:"type"`
			MessageID string      `json:"message_id"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Type == events.NewMessage { // the last line may be being written
			times[entry.MessageID]++
		}
	}
	return times, err
}

// webhook checks that the receiver has taken all of the events.
func (f *figures) webhook(must map[string]bool) (wrong []string) {
	for _, id := range f.receiver.lacks(must) {
		wrong = append(wrong, fmt.Sprintf("webhook: event %s was not taken", id))
	}
	return wrong
}

// analytics checks that the version has counted at least and at most so many messages, those aside that it may lack.
func (f *figures) analytics(ctx context.Context, version, least, most int) []string {
	counted, err := f.c.counted(ctx, version)
	if err != nil {
		return []string{err.Error()}
	}
	least -= f.uncounted[seriesOf(version)]
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

// excuse notes what the handlers lack while nobody speaks. The log is about to lose it.
func (f *figures) excuse(ctx context.Context) error {
	accepted := f.journal.Acknowledged()
	audited, err := f.audited("audit")
	if err != nil {
		return err
	}
	for id := range accepted {
		if audited[id] == 0 {
			f.unaudited[id] = true
		}
	}
	for _, id := range f.receiver.lacks(accepted) {
		f.unsent[id] = true
	}
	counted, err := f.c.countedInStore(ctx, seriesOf(1))
	f.uncounted[seriesOf(1)] = max(0, len(accepted)-int(counted)) // some may be counted and not acknowledged yet
	return errors.Join(err, f.told.excuse(ctx))
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

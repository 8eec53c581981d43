package proof

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"millrace/handlers"
	"millrace/services/client"
)

// Each handler runs in a process of its own, but for those that work only beside push. Killing any one under load changes neither
// delivery nor storage, unless these are what it does. After it is back, what it has counted, written or sent is exact. A new
// handler is among them by itself; if it has figures of its own, a line in [figures] compares them.
func TestKilledHandlerChangesNeitherDeliveryNorStorageAndIsExactOnceItIsBack(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	c := &cluster{t: t, dataDir: t.TempDir(), apart: true}
	c.startEmbedded()
	names := slices.DeleteFunc(handlers.Names(), func(name string) bool { return handlers.Check(1, name) != nil })
	for _, name := range names {
		if c.find(name) == nil {
			c.another(name, "audit", append(needsOf(t, name, r), "--handlers="+name)...)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 6*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	probe := crowd.Probe(ctx, Alice+100, c.gateways[1])
	load := func() {
		const some = 60
		before := crowd.Journal.AckedCount()
		Await(t, func() bool { return crowd.Journal.AckedCount() >= before+some }, "more is accepted")
	}
	for _, name := range names {
		load()
		p := c.named(name)
		p.kill()
		killed := crowd.watches.start()
		require.NoError(t, probe.next(ctx), "accepted without %s", name)
		if name != "storage" {
			Await(t, func() bool { return probe.stored(ctx, t) }, "stored without "+name)
		}
		if name != "push" {
			Await(t, func() bool { _, delivered := crowd.watches.of(killed); return delivered > 0 }, "delivered without "+name)
		}
		load()
		p.start(t)
		p.awaitReady(t)
		t.Logf("%s is back, %d acknowledged", name, crowd.Journal.AckedCount())
	}
	probe.End(ctx, t)
	crowd.End(ctx)
	newFigures(c, r, crowd.Journal).judge(ctx)
	Await(t, func() bool { return c.unfinished(ctx) == "" }, "nothing is left to handle, and nothing is poisoned")
	c.stopAll()
}

// needsOf returns the flags without which a handler does not start. Webhooks are sent to the receiver.
func needsOf(t testing.TB, name string, r *receiver) []string {
	t.Helper()
	switch name {
	case "notify":
		return []string{"--vapid-key=yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw", "--vapid-subject=mailto:ops@example.com"}
	case "webhook":
	default:
		return nil
	}
	path := filepath.Join(t.TempDir(), "webhooks.yaml")
	require.NoError(t, r.writeEndpoints(path))
	return []string{"--webhooks=" + path}
}

// stored reports whether the history has all messages of the probe.
func (p *Probe) stored(ctx context.Context, t *testing.T) bool {
	t.Helper()
	history, err := p.Client.History(ctx, client.History{Conversation: p.Conversation, Limit: 200})
	require.NoError(t, err)
	return len(history.Messages) == p.sends
}

// unfinished returns which handlers do not run, or have records to handle or poisoned ones.
func (c *cluster) unfinished(ctx context.Context) string {
	out, err := c.runs(ctx, "handlers", "--json", "--kafka-brokers="+strings.Join(c.log, ","))
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	var wrong, known []string
	for line := range bytes.Lines(out) {
		var row struct {
			Handler  string
			State    string
			Lag      int
			Poisoned int
		}
		if err := json.Unmarshal(line, &row, json.MatchCaseInsensitiveNames(true)); err != nil {
			return err.Error()
		}
		known = append(known, row.Handler)
		if row.State != "running" || row.Lag > 0 || row.Poisoned > 0 {
			wrong = append(wrong, string(line))
		}
	}
	for _, name := range handlers.Names() {
		if !slices.ContainsFunc(known, func(k string) bool { return k == name || strings.HasPrefix(k, name+"-") }) {
			wrong = append(wrong, name+" is not listed")
		}
	}
	return strings.Join(wrong, "; ")
}

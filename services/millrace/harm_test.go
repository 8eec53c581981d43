package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/config"
	"millrace/services/client"
)

// doHarm is how task test:harm runs the tests that do one kind of harm each and take more than some seconds. The oracle or
// a count decides; times are only told.
var doHarm = flag.Bool("harm", false, "run the tests that do harm for longer")

func needsHarm(t *testing.T) {
	t.Helper()
	if !*doHarm {
		t.Skip("takes longer: task test:harm runs it")
	}
}

// metric is the sum of a metric's values in the process, over all labels that contain each of the parts.
func (p *process) metric(t *testing.T, name string, parts ...string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(scrape(t, strings.Replace(p.ready, "/readyz", "/metrics", 1))) {
		labels, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		rest, named := strings.CutPrefix(labels, name)
		if !ok || !named || rest != "" && rest[0] != '{' {
			continue
		}
		for _, part := range parts {
			named = named && strings.Contains(rest, part)
		}
		if named {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			sum += n
		}
	}
	return sum
}

// heapInUse is how many bytes the process holds of objects that are in use, after collecting garbage.
func (p *process) heapInUse(t *testing.T) float64 {
	t.Helper()
	scrape(t, strings.Replace(p.ready, "/readyz", "/debug/pprof/heap?gc=1", 1))
	return p.metric(t, "go_memstats_heap_alloc_bytes")
}

// count is how often the process has logged the text since it was started first.
func (p *process) count(t *testing.T, text string) int {
	t.Helper()
	log, err := os.ReadFile(p.log)
	require.NoError(t, err)
	return bytes.Count(log, []byte(text))
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// startInside runs a role in this process until stop is called.
func startInside(t *testing.T, name config.Role, with fx.Option, flags ...string) (stop func()) {
	t.Helper()
	cfg := parse(t, name, append([]string{"--admin-addr=", "--log-level=error"}, flags...)...)
	options, err := roleNamed(t, name).appOptions(cfg)
	require.NoError(t, err)
	app, err := startApp(t.Context(), options, with)
	require.NoError(t, err)
	return func() { require.NoError(t, stopApp(context.WithoutCancel(t.Context()), app)) }
}

// eventuallyTrue waits until something holds, and tells how long it took.
func eventuallyTrue(t *testing.T, what string, holds func() bool) {
	t.Helper()
	begin := time.Now()
	require.Eventually(t, holds, healing, 10*time.Millisecond, what)
	t.Logf("%s after %s", what, time.Since(begin).Round(time.Millisecond))
}

// committed is up to where, as a seq, the group has acknowledged the partition.
func (c *cluster) committed(ctx context.Context, group string, partition int32) int64 {
	c.t.Helper()
	_, broker, ok := strings.Cut(strings.Join(c.processes[0].args, " "), "--embedded-kafka-addr=")
	require.True(c.t, ok)
	broker, _, _ = strings.Cut(broker, " ")
	admin, err := kgo.NewClient(kgo.SeedBrokers(broker))
	require.NoError(c.t, err)
	defer admin.Close()
	offsets, err := kadm.NewClient(admin).FetchOffsets(ctx, group)
	require.NoError(c.t, err)
	at, ok := offsets.Lookup(events.TopicMessages, partition)
	if !ok {
		return 0
	}
	return at.At
}

// probe is a client of the crowd that sends to itself, one message at a time.
type probe struct {
	*talker
	conversation string
	partition    int32
	shown        chan client.Push
	sends        int
}

func (c *crowd) probe(ctx context.Context, id int64, url string) *probe {
	c.t.Helper()
	p := &probe{talker: &talker{id: id, url: url, journal: c.journal}, shown: make(chan client.Push, 1000)}
	p.conversation = events.Direct(id, id)
	p.partition = events.Partition(p.conversation, events.DefaultPartitions)
	p.heard = func(push client.Push) { p.shown <- push }
	c.journal.Members(p.conversation, id)
	require.NoError(c.t, p.connect(ctx))
	return p
}

// next says one more message.
func (p *probe) next(ctx context.Context) error {
	p.sends++
	return p.say(ctx, client.ToUser(p.id), fmt.Sprintf("%d-%d", p.id, p.sends))
}

// sees is the next push that the probe is shown.
func (p *probe) sees(t *testing.T) client.Push {
	t.Helper()
	select {
	case push := <-p.shown:
		return push
	case <-time.After(healing):
		require.FailNow(t, "not seen", "probe %d", p.id)
		return client.Push{}
	}
}

// end waits until the probe's conversation is whole and leaves.
func (p *probe) end(ctx context.Context, t *testing.T) {
	t.Helper()
	require.NoError(t, p.untilWhole(ctx, p.conversation))
	require.NoError(t, p.client.Close())
}

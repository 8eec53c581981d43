package proof

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
)

// metric returns the sum of a metric's values in the process, over all labels that contain each of the parts.
func (p *process) metric(t testing.TB, name string, parts ...string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(Scrape(t, strings.Replace(p.ready, "/readyz", "/metrics", 1))) {
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

// heapInUse returns how many bytes of objects the process uses, after collecting garbage.
func (p *process) heapInUse(t *testing.T) float64 {
	t.Helper()
	Scrape(t, strings.Replace(p.ready, "/readyz", "/debug/pprof/heap?gc=1", 1))
	return p.metric(t, "go_memstats_heap_alloc_bytes")
}

// count returns how often the process has logged the text since it was first started.
func (p *process) count(t *testing.T, text string) int {
	t.Helper()
	n, err := p.logged(text)
	require.NoError(t, err)
	return n
}

// logged is count for goroutines that must not end the test.
func (p *process) logged(text string) (int, error) {
	log, err := os.ReadFile(p.log)
	return bytes.Count(log, []byte(text)), err
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// committed returns the seq up to which the group has acknowledged the partition.
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

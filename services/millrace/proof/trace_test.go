package proof

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"millrace/services/client"
)

// collector takes spans by OTLP over HTTP and notes their names by trace. If it hangs it answers nobody.
type collector struct {
	t     *testing.T
	hangs bool

	mu     sync.Mutex
	asked  int
	traces map[string][]string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the process is gone
	}
	if c.hangs {
		c.note()
		<-q.Context().Done()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var request collectorv1.ExportTraceServiceRequest
	assert.NoError(c.t, proto.Unmarshal(body, &request))
	for _, of := range request.GetResourceSpans() {
		assert.Contains(c.t, of.GetResource().String(), "millrace-dev")
		for _, scope := range of.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.traces[string(span.GetTraceId())] = append(c.traces[string(span.GetTraceId())], span.GetName())
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collector) note() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
}

// startTraced starts a process with everything in it that exports its traces to the collector.
func startTraced(t *testing.T, hangs bool, env ...string) (*collector, *process, string) {
	t.Helper()
	c := &collector{t: t, hangs: hangs, traces: map[string][]string{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	free := FreeAddresses(t, 4)
	dir := t.TempDir()
	p := &process{
		name: "dev", ready: readyURL(free[3]), log: filepath.Join(dir, "log"), env: append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL),
		args: []string{
			"dev", "--data-dir=" + filepath.Join(dir, "data"), "--embedded-kafka-addr=" + free[0], "--message-addr=" + free[1],
			"--connect-addr=" + free[2], "--admin-addr=" + free[3], "--jwt-secret=" + Secret, "--log-level=warn",
			"--handlers=storage,push,audit",
		},
	}
	t.Cleanup(p.kill)
	p.start(t)
	p.awaitReady(t)
	return c, p, "ws://" + free[2] + "/ws"
}

func TestAProcessExportsWholeTracesBeforeItEnds(t *testing.T) {
	t.Parallel()
	c, p, url := startTraced(t, false)
	a, b := Join(t, url, Alice, nil), Join(t, url, Bob, nil)
	a.Sends(t, client.ToUser(Bob), "hello")
	require.Equal(t, []string{"hello"}, b.Reads(t, 1))
	a.Stored(t, "u:1001:1002", 1)
	EventuallyTrue(t, "audit, which waits for more, has handled it", func() bool {
		return p.metric(t, "millrace_handler_records_total", `handler="audit",outcome="handled"`) == 1
	})
	p.stop(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, names := range c.traces {
		if slices.Contains(names, "send") {
			slices.Sort(names)
			require.Equal(t, []string{"commit", "deliver", "deliver", "send"}, slices.DeleteFunc(slices.Clone(names), func(name string) bool {
				return slices.Contains([]string{"millrace.v1.MessageService/SendBatches", "publish message-events", "process message-events"}, name)
			}))
			require.Len(t, names, 4+2+1+3, "two of SendBatches, one of publishing, one of each handler")
			return
		}
	}
	t.Fatal("no trace of the send")
}

func TestACollectorThatHangsDelaysNeitherMessagesNorTheEnd(t *testing.T) {
	t.Parallel()
	const n = 50 // of which each has some ten spans
	c, p, url := startTraced(t, true, "OTEL_BSP_MAX_QUEUE_SIZE=50")
	a, b := Join(t, url, Alice, nil), Join(t, url, Bob, nil)
	for _, content := range Numbered(0, n) {
		a.Sends(t, client.ToUser(Bob), content)
	}
	require.Equal(t, Numbered(0, n), b.Reads(t, n))
	p.stop(t)
	p.says(t, "spans are dropped")
	p.says(t, "spans cannot be exported")
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Positive(t, c.asked)
}

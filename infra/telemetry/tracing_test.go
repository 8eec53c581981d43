package telemetry_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"millrace/infra/telemetry"
)

// environment sets variables of OpenTelemetry, and empties all others that matter.
func environment(t *testing.T, set map[string]string) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
		"OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
	} {
		t.Setenv(name, set[name])
	}
}

func TestTracesAreOffUnlessTheEnvironmentAsksForThem(t *testing.T) {
	const endpoint = "http://127.0.0.1:4318"
	for name, test := range map[string]struct {
		set map[string]string
		on  bool
	}{
		"nothing is set":           {nil, false},
		"an endpoint":              {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, true},
		"an endpoint for traces":   {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}, true},
		"an exporter":              {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		"no exporter":              {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, false},
		"disabled":                 {map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, false},
		"only a sampler is no use": {map[string]string{"OTEL_TRACES_SAMPLER": "always_on"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, test.set)
			require.Equal(t, test.on, telemetry.TracesConfigured())
		})
	}
}

func TestExportersThatThereAreNotAreRefusedInWords(t *testing.T) {
	for want, set := range map[string]map[string]string{
		"OTEL_TRACES_EXPORTER=zipkin: want otlp, console or none":           {"OTEL_TRACES_EXPORTER": "console,zipkin"},
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/json: want http/protobuf or grpc": {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
		"OTEL_RESOURCE_ATTRIBUTES":                                          {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_RESOURCE_ATTRIBUTES": "nonsense"},
	} {
		t.Run(want, func(t *testing.T) {
			environment(t, set)
			_, err := telemetry.StartTracing(t.Context(), "test", "v0", prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, want)
		})
	}
}

// collector is an OTLP collector over HTTP. While it hangs it answers nobody.
type collector struct {
	*httptest.Server
	t    *testing.T
	hang chan struct{} // closed when it no longer hangs

	mu    sync.Mutex
	spans []string // "service: name"
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t, hang: make(chan struct{})}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Server.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	assert.NoError(c.t, err)
	select {
	case <-c.hang:
	case <-q.Context().Done():
		return
	}
	var request collectorv1.ExportTraceServiceRequest
	assert.Equal(c.t, "/v1/traces", q.URL.Path)
	assert.NoError(c.t, proto.Unmarshal(body, &request))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range request.GetResourceSpans() {
		service := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, service+": "+span.GetName())
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collector) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

// start starts tracing to the collector, with a queue for so many spans.
func (c *collector) start(t *testing.T, queue string, set map[string]string) (*telemetry.Tracing, *prometheus.Registry, *lines) {
	t.Helper()
	all := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_BSP_MAX_QUEUE_SIZE": queue, "OTEL_BSP_SCHEDULE_DELAY": "1"}
	for name, value := range set {
		all[name] = value
	}
	environment(t, all)
	metrics, log := prometheus.NewRegistry(), &lines{}
	tracing, err := telemetry.StartTracing(t.Context(), "connect", "v0", metrics, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	return tracing, metrics, log
}

type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}

func spanMetric(exported, failed, dropped string) string {
	return `
# HELP millrace_trace_spans_total Recorded spans by what became of them: exported, failed, or dropped because too many were waiting.
# TYPE millrace_trace_spans_total counter
millrace_trace_spans_total{result="exported"} ` + exported + `
millrace_trace_spans_total{result="failed"} ` + failed + `
millrace_trace_spans_total{result="dropped"} ` + dropped + "\n"
}

func TestSpansAreExportedAtTheEndAtTheLatest(t *testing.T) {
	for name, test := range map[string]struct {
		set  map[string]string
		want []string
	}{
		"by default":              {nil, []string{"millrace-connect: one", "millrace-connect: two"}},
		"with a name of its own":  {map[string]string{"OTEL_SERVICE_NAME": "chat"}, []string{"chat: one", "chat: two"}},
		"with a sampler for none": {map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t)
			close(c.hang)
			tracing, metrics, _ := c.start(t, "", test.set)
			for _, name := range []string{"one", "two"} {
				_, span := tracing.Tracer().Start(t.Context(), name)
				span.End()
			}
			tracing.Close(t.Context())
			require.Equal(t, test.want, c.all())
			exported := "2"
			if test.want == nil {
				exported = "0"
			}
			require.NoError(t, testutil.GatherAndCompare(metrics, strings.NewReader(spanMetric(exported, "0", "0")), "millrace_trace_spans_total"))
		})
	}
}

func TestACollectorThatHangsHoldsUpNobodyAndWhatIsDroppedIsCountedAndToldOnce(t *testing.T) {
	c := newCollector(t)
	tracing, metrics, log := c.start(t, "10", nil)
	tracer := tracing.Tracer()
	for range 1000 { // if one of them waited for the collector, the test would never end
		_, span := tracer.Start(t.Context(), "one of many")
		span.End()
	}
	stopping, cancel := context.WithCancel(t.Context())
	cancel() // the process may wait no longer
	tracing.Close(stopping)
	require.Empty(t, c.all())
	require.NoError(t, testutil.GatherAndCompare(metrics, strings.NewReader(spanMetric("0", "10", "990")), "millrace_trace_spans_total"))
	require.Equal(t, 1, log.count("spans are dropped"))
	require.Equal(t, 1, log.count("spans cannot be exported"))
}

func TestACollectorThatIsAwayIsToldOnceAndItsReturnToo(t *testing.T) {
	c := newCollector(t)
	close(c.hang)
	var back atomic.Bool
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if back.Load() {
			c.ServeHTTP(w, q)
		} else {
			http.NotFound(w, q) // an error after which the exporter does not try again
		}
	}))
	defer away.Close()
	tracing, metrics, log := c.start(t, "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": away.URL})
	tracer := tracing.Tracer()
	lost := func(n float64) func() bool {
		return func() bool { return sumOf(t, metrics, "millrace_trace_spans_total", "failed") >= n }
	}
	for n := range 3 {
		_, span := tracer.Start(t.Context(), "lost")
		span.End()
		require.Eventually(t, lost(float64(n+1)), 30*time.Second, time.Millisecond)
	}
	require.Equal(t, 1, log.count("spans cannot be exported"))
	back.Store(true)
	_, span := tracer.Start(t.Context(), "kept")
	span.End()
	tracing.Close(t.Context())
	require.Equal(t, []string{"millrace-connect: kept"}, c.all())
	require.Equal(t, 1, log.count("spans are exported again"))
}

// sumOf returns the value of the counter with the result.
func sumOf(t *testing.T, from prometheus.Gatherer, name, result string) float64 {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

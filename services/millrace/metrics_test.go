package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/infra/telemetry"
	"millrace/services/client"
)

func TestEndToEndMetricsTellWhatHappened(t *testing.T) {
	besideOthers(t)
	var reg *prometheus.Registry
	d := startDevWith(t, t.TempDir(), fx.Populate(&reg))
	a, b := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil)
	a.sends(t, client.ToUser(bob), "hello")
	require.Equal(t, []string{"hello"}, b.reads(t, 1))
	_ = eventually(t, a, "u:1001:1002", 1)
	_, err := a.Send(t.Context(), client.Send{Target: client.ToGroup(77), Content: "nobody there"})
	require.Error(t, err)
	require.NoError(t, b.Close())

	want := []string{
		`millrace_handler_records_total{handler="storage",outcome="handled"} 1`,
		`millrace_handler_records_total{handler="push",outcome="handled"} 1`,
		`millrace_handler_records_total{handler="audit",outcome="handled"} 1`,
		`millrace_handler_record_age_seconds_count{handler="storage"} 1`,
		`millrace_consumer_lag_seconds{group="storage-consumer-group",topic="message-events"} 0`,
		`millrace_publish_records_total{result="ok",topic="message-events"} 1`,
		`millrace_sends_total{result="sent"} 1`,
		`millrace_sends_total{result="not_found"} 1`,
		`millrace_connections 1`,
		`millrace_connects_total{result="new"} 2`,
		`millrace_pushes_total 2`,
		`millrace_closes_total{code="1000"} 1`,
		`millrace_store_duration_seconds_count{operation="save_batch"}`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="History"`,
		`go_goroutines`, `process_cpu_seconds_total`, `millrace_build_info{role="dev"`,
	}
	admin := serveMetrics(t, reg)
	require.Eventually(t, func() bool {
		text := scrape(t, admin)
		for _, line := range want {
			if !strings.Contains(text, "\n"+line) {
				t.Logf("not there yet: %s", line)
				return false
			}
		}
		return true
	}, patience, 200*time.Millisecond)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	d.stop()
}

func serveMetrics(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	admin, err := telemetry.StartAdmin("127.0.0.1:0", nil, reg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	return "http://" + admin.Addr() + "/metrics"
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	return string(body)
}

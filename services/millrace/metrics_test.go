package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/infra/telemetry"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestEndToEndMetricsTellWhatHappened(t *testing.T) {
	besideOthers(t)
	var reg *prometheus.Registry
	d := startDevWith(t, t.TempDir(), fx.Populate(&reg))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "hello")
	require.Equal(t, []string{"hello"}, b.Reads(t, 1))
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
		text := proof.Scrape(t, admin)
		for _, line := range want {
			if !strings.Contains(text, "\n"+line) {
				t.Logf("not there yet: %s", line)
				return false
			}
		}
		return true
	}, proof.Patience, 200*time.Millisecond)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	d.stop()
}

func serveMetrics(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	admin, err := telemetry.StartAdmin("127.0.0.1:0", new(telemetry.Checks), reg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	return "http://" + admin.Addr() + "/metrics"
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/services/client"
)

// A real Prometheus looks at real processes: every panel shows something, and every alert fires when its cause is there,
// not before, and ends with it.
func TestMonitoringShowsWhatHappensAndAlertsWhenItMust(t *testing.T) {
	path := prometheusPath(t)
	c := startCluster(t)
	m := startMonitor(t, path, c)
	ctx, cancel := context.WithTimeout(t.Context(), 4*healing)
	defer cancel()
	crowd := startCrowd(ctx, t, c.gateways)
	crowd.goesOn("watched")
	a := join(t, c.gateways[0], alice+100, nil)
	a.sends(t, client.ToUser(bob+100), "hello")
	require.NoError(t, a.Close())
	m.awaitPanels(t)

	alerts := []struct{ name, where string }{
		{"MillraceTargetDown", `job="worker"`},
		{"MillraceConsumerLag", `group="audit-consumer-group"`},
		{"MillracePoisoned", `topic="message-events"`},
		{"MillraceHandlerFailing", `handler="storage"`},
		{"MillracePublishErrors", `topic="message-events"`},
		{"MillraceBrokerAway", `job="message"`},
	}
	rules := m.alertRules(t)
	require.Len(t, rules, len(alerts), "every alert has a cause below")
	for _, alert := range alerts {
		require.Contains(t, rules, alert.name)
		require.Empty(t, rules[alert.name])
	}
	require.Empty(t, m.query(t, `count_over_time(ALERTS{alertstate="firing"}[1h])`), "nothing has gone wrong yet")

	worker, broker := c.named("worker"), c.named("broker")
	worker.stop(t)
	produceUndecodable(t, c.log, 200)
	for _, alert := range alerts[:4] {
		m.awaitFired(t, alert.name, alert.where)
	}
	require.Empty(t, m.query(t, `count_over_time(ALERTS{alertname=~"MillracePublishErrors|MillraceBrokerAway"}[1h])`), "the broker is there")
	broker.stop(t)
	for _, alert := range alerts[4:] {
		m.awaitFired(t, alert.name, alert.where)
	}

	broker.start(t)
	worker.start(t)
	crowd.end(ctx)
	require.Eventually(t, func() bool {
		firing := m.query(t, `ALERTS{alertstate="firing"}`)
		return len(firing) == 1 && firing[0].Metric["alertname"] == "MillracePoisoned"
	}, patience, 100*time.Millisecond, "what is in the poison queue stays, all else is over")
	c.stopAll()
}

// panels are the expressions of all Grafana dashboards by where they are shown.
func panels(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(deployed, "grafana/dashboards/*.json"))
	require.NoError(t, err)
	exprs := map[string]string{}
	for _, file := range files {
		var dashboard struct {
			Title  string
			Panels []struct {
				ID      int
				Title   string
				Targets []struct{ RefID, Expr string }
			}
		}
		require.NoError(t, json.Unmarshal([]byte(readDeployed(t, "grafana/dashboards/"+filepath.Base(file))), &dashboard))
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				require.NotContains(t, target.Expr, "$", "nobody has put a value in the place of the variable")
				exprs[fmt.Sprintf("%s / %d %s / %s", dashboard.Title, panel.ID, panel.Title, target.RefID)] = target.Expr
			}
		}
	}
	require.NotEmpty(t, exprs)
	return exprs
}

// awaitPanels waits until every expression of every panel has a number to show.
func (m *monitor) awaitPanels(t *testing.T) {
	t.Helper()
	empty := panels(t)
	isNumber := func(s sample) bool { return s.Value[1] != "NaN" }
	deadline := time.Now().Add(healing)
	for ; len(empty) > 0 && time.Now().Before(deadline); wait(t.Context(), 100*time.Millisecond) {
		for where, expr := range empty {
			if slices.ContainsFunc(m.query(t, expr), isNumber) {
				delete(empty, where)
			}
		}
	}
	for where, expr := range empty {
		t.Errorf("%s shows nothing: %s", where, expr)
	}
	require.Empty(t, empty)
}

// awaitFired waits until the alert has been firing, be it over again.
func (m *monitor) awaitFired(t *testing.T, alert, where string) {
	t.Helper()
	begin := time.Now()
	expr := fmt.Sprintf(`count_over_time(ALERTS{alertstate="firing",alertname=%q,%s}[1h])`, alert, where)
	require.Eventually(t, func() bool { return len(m.query(t, expr)) > 0 }, 2*healing, 100*time.Millisecond, "%s does not fire", alert)
	t.Logf("%s fired after %s", alert, time.Since(begin).Round(time.Millisecond))
}

func produceUndecodable(t *testing.T, brokers []string, n int) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer producer.Close()
	for range n {
		record := &kgo.Record{Topic: events.TopicMessages, Value: []byte("undecodable")}
		require.NoError(t, producer.ProduceSync(t.Context(), record).FirstErr())
	}
}

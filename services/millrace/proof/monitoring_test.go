package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/security/securitytest"
	"millrace/services/client"
)

// garbage is how many undecodable records are produced.
const garbage = 200

// A real Prometheus watches real processes. Every panel shows something, and every alert fires while its cause exists, and
// not before or after.
func TestMonitoringShowsWhatHappensAndAlertsWhenItMust(t *testing.T) {
	prometheus := prometheusPath(t)
	c := &cluster{t: t, dataDir: t.TempDir()}
	ruled, endpoints := filepath.Join(c.dataDir, "rules.yaml"), filepath.Join(c.dataDir, "webhooks.yaml")
	require.NoError(t, writeRules(ruled))
	reviewer, receiver := newReviewer(t), newReceiver(t)
	receiver.reliable = true
	require.NoError(t, receiver.writeEndpoints(endpoints))
	c.deciding = []string{"--rules=" + ruled, "--hook-url=" + reviewer.URL, "--hook-secret=" + hookSecret}
	c.startEmbedded()
	c.another("extensions", "worker", "--handlers=analytics,webhook,moderation", "--webhooks="+endpoints, "--rules="+ruled)
	m := startMonitor(t, prometheus, c)
	ctx, cancel := context.WithTimeout(t.Context(), 4*Healing)
	defer cancel()
	crowd := startCrowd(ctx, t, c.gateways, true)
	crowd.GoesOn("watched")
	a := Join(t, c.gateways[0], Alice+100, nil)
	a.Sends(t, client.ToUser(Bob+100), "hello")
	require.NoError(t, a.Close())
	m.awaitPanels(t)

	alerts := []struct{ name, where string }{
		{"MillraceOpenTransaction", `topic="message-events"`},
		{"MillraceHandlerNotReady", `handler="audit"`},
		{"MillraceTargetDown", `job="worker"`},
		{"MillraceConsumerLag", `group="audit-consumer-group"`},
		{"MillracePoisoned", `topic="message-events"`},
		{"MillraceHandlerFailing", `handler="storage"`},
		{"MillracePublishErrors", `topic="message-events"`},
		{"MillraceBrokerAway", `job="message"`},
		{"MillraceLogIncident", `kind="topic_anew"`},
		{"MillraceCertificateExpires", `job="worker"`},
		{"MillraceTLSFilesUnusable", `job="worker"`},
		{"MillraceHookFailing", `hook="http",outcome="open"`},
		{"MillraceRulesInvalid", `job="message"`},
	}
	rules := m.alertRules(t)
	require.Contains(t, rules, "MillracePanic")
	delete(rules, "MillracePanic") // no test can cause one; alerts_test.yml tests the rule
	require.Len(t, rules, len(alerts), "every alert has a cause below")
	for _, alert := range alerts {
		require.Contains(t, rules, alert.name)
		require.Empty(t, rules[alert.name])
	}
	require.Empty(t, m.query(t, `count_over_time(ALERTS{alertstate="firing"}[1h])`), "nothing has gone wrong yet")

	journal := filepath.Join(c.dataDir, "audit.log")
	require.NoError(t, os.Rename(journal, journal+".whole"))
	require.NoError(t, os.WriteFile(journal, []byte("no line of the log\n"), 0o600))
	m.awaitFired(t, alerts[1].name, alerts[1].where)
	require.NoError(t, os.Rename(journal+".whole", journal))

	reviewer.fails.Store(true)
	require.NoError(t, os.WriteFile(ruled, []byte("no rules"), 0o600))
	m.awaitFired(t, alerts[11].name, alerts[11].where)
	m.awaitFired(t, alerts[12].name, alerts[12].where)
	reviewer.fails.Store(false)
	require.NoError(t, writeRules(ruled))

	worker, broker := c.named("worker"), c.named("broker")
	abort := openTransaction(t, c.log)
	m.awaitFired(t, alerts[0].name, alerts[0].where)
	abort() // the next record that is produced may lie behind it
	worker.stop(t)
	produceUndecodable(t, c.log, garbage)
	for _, alert := range alerts[:6] {
		m.awaitFired(t, alert.name, alert.where)
	}
	require.Empty(t, m.query(t, `count_over_time(ALERTS{alertname=~"MillracePublishErrors|MillraceBrokerAway"}[1h])`), "the broker is there")
	broker.stop(t)
	for _, alert := range alerts[6:8] {
		m.awaitFired(t, alert.name, alert.where)
	}

	broker.start(t)
	authority, certs := securitytest.NewAuthority(t), t.TempDir()
	cert, key := filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem")
	authority.Issue(t, cert, key, time.Hour, "localhost")
	worker.args = append(worker.args, "--service-tls", "--service-tls-cert="+cert, "--service-tls-key="+key)
	worker.start(t)
	crowd.End(ctx)
	handlers := 7 // storage, push, groups, audit, analytics, the webhook and moderation
	Await(t, func() bool {
		return m.shows(t, fmt.Sprintf("max(millrace_poison_backlog_records) >= %d", handlers*garbage)) &&
			m.shows(t, "max(millrace_consumer_lag_records) == 0")
	}, "everything is handled or poisoned")
	_, err := adminOf(t, c.log).DeleteTopic(ctx, events.TopicMessages)
	require.NoError(t, err)
	m.awaitFired(t, alerts[8].name, alerts[8].where)
	m.awaitFired(t, alerts[9].name, alerts[9].where)
	require.NoError(t, os.WriteFile(cert, []byte("half of a cert"), 0o600))
	m.awaitFired(t, alerts[10].name, alerts[10].where)
	authority.Issue(t, cert, key, 365*24*time.Hour, "localhost")
	path, err := built.path()
	require.NoError(t, err)
	said, err := exec.CommandContext(ctx, path, "poison", "discard", "--all", "--kafka-brokers="+strings.Join(c.log, ",")).CombinedOutput()
	t.Logf("%s", said)
	require.NoError(t, err)
	Await(t, func() bool { return !m.shows(t, `ALERTS{alertstate="firing"}`) }, "all is over")
	c.stopAll()
}

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// reviewer is an HTTP hook that lets everything pass, unless it fails.
type reviewer struct {
	*httptest.Server
	fails atomic.Bool
}

func newReviewer(t testing.TB) *reviewer {
	t.Helper()
	r := &reviewer{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var asked struct {
			Data struct{ Messages []json.RawMessage }
		}
		if err := json.NewDecoder(q.Body).Decode(&asked); err != nil || r.fails.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"verdicts": make([]struct{}, len(asked.Data.Messages))})
	}))
	t.Cleanup(r.Close)
	return r
}

// panels returns the expressions of all Grafana dashboards, by the place where they are shown.
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

// shows reports whether the expression has a number to show.
func (m *monitor) shows(t *testing.T, expr string) bool {
	t.Helper()
	return slices.ContainsFunc(m.query(t, expr), func(s sample) bool { return s.Value[1] != "NaN" })
}

// awaitPanels waits until every expression of every panel shows something.
func (m *monitor) awaitPanels(t *testing.T) {
	t.Helper()
	empty := panels(t)
	for begin := time.Now(); len(empty) > 0 && time.Since(begin) < Healing; Wait(t.Context(), 100*time.Millisecond) {
		maps.DeleteFunc(empty, func(_, expr string) bool { return m.shows(t, expr) })
	}
	for where, expr := range empty {
		t.Errorf("%s shows nothing: %s", where, expr)
	}
	require.Empty(t, empty)
}

// awaitFired waits until the alert has been firing, perhaps repeatedly.
func (m *monitor) awaitFired(t *testing.T, alert, where string) {
	t.Helper()
	begin := time.Now()
	expr := fmt.Sprintf(`count_over_time(ALERTS{alertstate="firing",alertname=%q,%s}[1h])`, alert, where)
	Await(t, func() bool { return m.shows(t, expr) }, alert+" fires")
	t.Logf("%s fired after %s", alert, time.Since(begin).Round(time.Millisecond))
}

// openTransaction leaves a transaction of a foreign producer open until the function that it returns is called.
func openTransaction(t *testing.T, brokers []string) (abort func()) {
	t.Helper()
	producer, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.TransactionalID("left-open"), kgo.TransactionTimeout(10*time.Minute))
	require.NoError(t, err)
	require.NoError(t, producer.BeginTransaction())
	record := &kgo.Record{Topic: events.TopicMessages, Value: []byte("undecodable")}
	require.NoError(t, producer.ProduceSync(t.Context(), record).FirstErr())
	return func() {
		require.NoError(t, producer.EndTransaction(t.Context(), kgo.TryAbort))
		producer.Close()
	}
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

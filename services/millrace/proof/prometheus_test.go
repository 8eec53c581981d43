package proof

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// prometheusEnv enables the tests that start a Prometheus.
const prometheusEnv = "MILLRACE_TEST_PROMETHEUS"

// deployed is the directory with the configuration of Prometheus and Grafana.
const deployed = "../../../deployments"

// scrapeEvery is how often Prometheus scrapes and evaluates the rules in tests. A response may take as long.
const scrapeEvery = "500ms"

const (
	shortMinute = 5    // how many seconds a minute has in the alerts' expressions
	shortWait   = "3s" // how long the alerts wait before they fire
)

// monitor is a Prometheus that scrapes a cluster.
type monitor struct{ url string }

// prometheusPath skips the test unless Prometheus is enabled.
func prometheusPath(t *testing.T) string {
	t.Helper()
	if os.Getenv(prometheusEnv) == "" {
		t.Skip("starts a Prometheus and takes a minute and a half: task test:monitoring runs it")
	}
	path, err := exec.LookPath("prometheus")
	require.NoError(t, err, "apt-get install prometheus")
	return path
}

// startMonitor runs Prometheus with the deployed configuration, except for addresses and durations, until the test ends.
func startMonitor(t *testing.T, path string, c *cluster) *monitor {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("prometheus.yml", c.scraped(t, readDeployed(t, "prometheus/prometheus.yml")))
	write("alerts.yml", hastened(t, readDeployed(t, "prometheus/alerts.yml")))
	address := FreeAddresses(t, 1)[0]
	p := &process{
		name: "prometheus", path: path, ready: "http://" + address + "/-/ready", log: filepath.Join(c.dataDir, "prometheus.log"),
		args: []string{
			"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + address, "--log.level=warn",
		},
	}
	c.processes = append(c.processes, p) // its log is printed if the test fails
	p.start(t)
	p.awaitReady(t)
	return &monitor{"http://" + address}
}

func readDeployed(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployed, path))
	require.NoError(t, err)
	return string(text)
}

// scraped replaces the containers by the processes of the cluster, all of each role.
func (c *cluster) scraped(t *testing.T, config string) string {
	t.Helper()
	for container, names := range map[string][]string{
		"message:9100": {"message-1", "message-2"}, "connect-1:9101": {"connect-1"}, "connect-2:9101": {"connect-2"},
		"worker:9102": {"worker", "extensions"},
	} {
		var targets []string
		for _, name := range names {
			admin, err := url.Parse(c.named(name).ready)
			require.NoError(t, err)
			targets = append(targets, strconv.Quote(admin.Host))
		}
		config = replaced(t, config, strconv.Quote(container), strings.Join(targets, ", "))
	}
	config = replaced(t, config, "scrape_interval: 5s", "scrape_interval: "+scrapeEvery)
	return replaced(t, config, "evaluation_interval: 5s", "evaluation_interval: "+scrapeEvery)
}

func replaced(t *testing.T, text, old, by string) string {
	t.Helper()
	require.Contains(t, text, old)
	return strings.ReplaceAll(text, old, by)
}

// hastened shortens the durations in the alerts' expressions and how long they wait. The unit tests of the rules check the
// real ones.
func hastened(t *testing.T, rules string) string {
	t.Helper()
	waits, ranges := regexp.MustCompile(`for: \d+m`), regexp.MustCompile(`\[(\d+)m\]`)
	require.Regexp(t, waits, rules)
	require.Regexp(t, ranges, rules)
	rules = waits.ReplaceAllString(rules, "for: "+shortWait)
	rules = strings.ReplaceAll(rules, "< 3600", "< 10")
	return ranges.ReplaceAllStringFunc(rules, func(r string) string {
		minutes, err := strconv.Atoi(ranges.FindStringSubmatch(r)[1])
		require.NoError(t, err)
		return fmt.Sprintf("[%ds]", shortMinute*minutes)
	})
}

// sample is one series of a response.
type sample struct {
	Metric map[string]string
	Value  [2]any // time and value, a string
}

// query returns the present value of the expression.
func (m *monitor) query(t *testing.T, expr string) []sample {
	t.Helper()
	var vector struct{ Result []sample }
	m.get(t, "query?query="+url.QueryEscape(expr), &vector)
	return vector.Result
}

// alertRules returns the rules by name, with what is wrong with them.
func (m *monitor) alertRules(t *testing.T) map[string]string {
	t.Helper()
	var all struct {
		Groups []struct {
			Rules []struct{ Name, Type, LastError string }
		}
	}
	m.get(t, "rules", &all)
	rules := map[string]string{}
	for _, group := range all.Groups {
		for _, rule := range group.Rules {
			rules[rule.Name] = rule.LastError
		}
	}
	return rules
}

func (m *monitor) get(t *testing.T, path string, into any) {
	t.Helper()
	status, body := Asks(t, m.url+"/api/v1/"+path)
	require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
	answer := struct{ Data any }{into}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
}

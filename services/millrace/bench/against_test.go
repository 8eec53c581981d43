package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
	"millrace/services/client/clienttest"
)

// against compares two fakes with small numbers.
func against(t *testing.T, this, other *clienttest.Fake, args ...string) (out, progress string, err error) {
	t.Helper()
	this.Answer, other.Answer = makesGroups, makesGroups
	cmd := NewCommand()
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(append([]string{
		"--url=" + this.WebSocket(), "--against=" + other.WebSocket(), "--token-secret=", "--mode=all", "--rounds=2",
		"--pairs=2", "--in-flight=4", "--many-pairs=8", "--members=5", "--count=20", "--serial-count=20", "--clients=4", "--missed=20",
	}, args...))
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

func TestBenchAgainstAnotherSystemComparesEveryModeByEveryMeasure(t *testing.T) {
	out, _, err := against(t, clienttest.New(t), clienttest.New(t), "--json")
	require.NoError(t, err)
	var c comparison
	require.NoError(t, json.Unmarshal([]byte(out), &c))
	require.Len(t, c.Lines, 5*len(measures()))
	for _, l := range c.Lines {
		require.Positive(t, l.This, l)
		require.Positive(t, l.Against, l)
		require.Positive(t, l.Ratio, l)
	}
}

func TestBenchAgainstAnotherSystemChangesFromRoundToRoundWhichGoesFirst(t *testing.T) {
	this, other := clienttest.New(t), clienttest.New(t)
	_, progress, err := against(t, this, other, "--mode=serial")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(progress), "\n")
	require.Len(t, lines, 4)
	for i, f := range []*clienttest.Fake{this, other, other, this} {
		require.True(t, strings.HasSuffix(lines[i], "serial at "+f.WebSocket()), lines[i])
	}
}

// lagging returns the admin address of a system whose handlers have some records left at the first looks, and how often somebody
// looked.
func lagging(t *testing.T, looks int64) (address string, looked *atomic.Int64) {
	t.Helper()
	looked = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		left := max(looks-looked.Add(1)+1, 0)
		fmt.Fprintf(w, "# TYPE millrace_consumer_lag_records gauge\nmillrace_consumer_lag_records{partition=\"1\"} %d\n"+
			"millrace_consumer_lag_records{partition=\"2\"} 0\n", left)
	}))
	t.Cleanup(server.Close)
	return server.URL, looked
}

func TestBenchAgainstAnotherSystemWaitsUntilBothHaveSettled(t *testing.T) {
	admin, looked := lagging(t, 0)
	behind, lookedBehind := lagging(t, 1)
	_, progress, err := against(t, clienttest.New(t), clienttest.New(t), "--mode=serial", "--rounds=1", "--admin="+admin, "--against-admin="+behind)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(progress), "\n")
	require.Len(t, lines, 3)
	require.Equal(t, "the handlers at "+behind+" have 1 records left, waiting", lines[0])
	require.EqualValues(t, 2, looked.Load(), "before each run")
	require.EqualValues(t, 3, lookedBehind.Load(), "once more, since one was left")

	_, _, err = against(t, clienttest.New(t), clienttest.New(t), "--mode=serial", "--admin="+admin, "--against-admin=http://127.0.0.1:1")
	require.ErrorContains(t, err, "127.0.0.1:1")
}

func TestBenchAgainstAnotherSystemFailsIfEitherIsBroken(t *testing.T) {
	for _, name := range []string{"this", "other"} {
		this, other := clienttest.New(t), clienttest.New(t)
		broken := map[string]*clienttest.Fake{"this": this, "other": other}[name]
		broken.Deliver = func(_ int64, m client.Message) []client.Message { return []client.Message{m, m} }
		_, _, err := against(t, this, other, "--mode=load")
		require.ErrorIs(t, err, errBroken, name)
		require.ErrorContains(t, err, broken.WebSocket())
	}
}

func TestRatiosAreThoseOfTheRounds(t *testing.T) {
	at := func(rate float64) []benchResult { return []benchResult{{Mode: modeLoad, DeliveredRate: rate}} }
	lines := compared([]round{
		{this: at(20), against: at(10)},
		{this: at(300), against: at(100)}, // a fast hour
		{this: at(4), against: at(4)},
	})
	require.Equal(t, comparedLine{Mode: modeLoad, Measure: "delivered/s", Against: 10, This: 20, Ratio: 2}, lines[0])
	require.Zero(t, lines[1].Ratio, "nothing was measured")
}

package bench

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"millrace/services/client/clienttest"
)

// admin is what the idle mode needs of an admin address.
func admin(t *testing.T) string {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.Handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func idle(t *testing.T, args ...string) (out []byte, err error) {
	cmd := NewCommand()
	var stdout bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(append([]string{"--mode=idle", "--token-secret=", "--connections=50", "--json"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return stdout.Bytes(), err
}

func TestIdleMeasuresWhatConnectionsCost(t *testing.T) {
	f := clienttest.New(t)
	out, err := idle(t, "--url="+f.WebSocket(), "--admin="+admin(t))
	require.NoError(t, err)
	var result idleResult
	require.NoError(t, json.Unmarshal(out, &result))
	require.Equal(t, 50, result.Connections)
	require.Positive(t, result.ConnectsPerSec)
	require.Positive(t, result.Live, "the fake lives in this process")
}

func TestIdleComparesTwoSystems(t *testing.T) {
	f := clienttest.New(t)
	out, err := idle(t, "--url="+f.WebSocket(), "--admin="+admin(t), "--against="+f.WebSocket(), "--against-admin="+admin(t))
	require.NoError(t, err)
	var c comparison
	require.NoError(t, json.Unmarshal(out, &c))
	require.Len(t, c.Lines, 3)
	for _, line := range c.Lines {
		require.Equal(t, modeIdle, line.Mode)
	}
}

func TestIdleSaysWhatIsWrongWithTheAdminAddress(t *testing.T) {
	f := clienttest.New(t)
	_, err := idle(t, "--url="+f.WebSocket(), "--admin="+f.URL)
	require.ErrorContains(t, err, "404")
	_, err = idle(t, "--url="+f.WebSocket(), "--against="+f.WebSocket(), "--admin="+admin(t))
	require.ErrorContains(t, err, "--against-admin")
}

package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthyTellsReadyFromAliveFromGone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()

	_, err := run(t, "healthy", "--admin-addr="+address)
	require.ErrorContains(t, err, "503")
	_, err = run(t, "healthy", "--alive", "--admin-addr="+address)
	require.NoError(t, err)

	server.Close()
	_, err = run(t, "healthy", "--alive", "--admin-addr="+address)
	require.ErrorContains(t, err, "asking "+address)
}

func TestHealthyAsksThisMachineForAnAddressThatStandsForAll(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	for _, address := range []string{":" + port, "0.0.0.0:" + port} {
		t.Setenv("MILLRACE_ADMIN_ADDR", address)
		_, err = run(t, "healthy")
		require.NoError(t, err, address)
	}
}

func TestHealthySaysWhatIsWrong(t *testing.T) {
	t.Setenv("MILLRACE_ADMIN_ADDR", "")
	_, err := run(t, "healthy")
	require.ErrorContains(t, err, "MILLRACE_ADMIN_ADDR")
	_, err = run(t, "healthy", "--admin-addr=9100")
	require.ErrorContains(t, err, "no host:port")
}

package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadinessNamesWhatIsNotReady(t *testing.T) {
	var store error
	var checks Checks
	checks.Add(
		Check{Name: "broker", Ready: func(context.Context) error { return nil }},
		Check{Name: "store", Ready: func(context.Context) error { return store }},
	)
	admin, err := StartAdmin("127.0.0.1:0", &checks, NewMetrics("v1", "dev"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()

	code, _ := get(t, admin, "/readyz")
	require.Equal(t, http.StatusOK, code)

	store = errors.New("disk full")
	code, body := get(t, admin, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "store: disk full\n", body)

	code, _ = get(t, admin, "/healthz")
	require.Equal(t, http.StatusOK, code, "the process lives all the same")

	code, body = get(t, admin, "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, `millrace_build_info{role="dev",version="v1"} 1`)
}

// Otherwise a foreign page could read what is served here by DNS rebinding.
func TestOnLoopbackOnlyNamesOfThisMachineAreServed(t *testing.T) {
	admin, err := StartAdmin("127.0.0.1:0", new(Checks), NewMetrics("v1", "dev"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin.Addr()+path, nil)
		require.NoError(t, err)
		request.Host = "evil.example.org"
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusForbidden, response.StatusCode, path)
	}
}

func TestARequestThatNeverComesIsCutOff(t *testing.T) {
	admin, err := StartAdmin("127.0.0.1:0", new(Checks), NewMetrics("v1", "dev"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	for _, request := range []string{"", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", admin.Addr())
		require.NoError(t, err)
		_, err = io.WriteString(conn, request)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

func TestReadinessIsAnsweredInTimeWhateverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		thaw := make(chan struct{})
		asked := 0
		var checks Checks
		checks.Add(
			Check{Name: "log", Ready: func(context.Context) error { // it ignores the context
				asked++
				<-thaw
				return nil
			}},
			Check{Name: "store", Ready: func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New("disk full")
			}},
		)
		for range 3 {
			begin := time.Now()
			require.ErrorContains(t, checks.Ready(t.Context()), "log: no answer within 800ms")
			require.Less(t, time.Since(begin), time.Second)
			synctest.Wait()
		}
		require.Equal(t, 1, asked, "probes of what hangs do not pile up")
		close(thaw)
		synctest.Wait()
		require.NotContains(t, checks.Ready(t.Context()).Error(), "log:")
		synctest.Wait()
	})
}

func TestTakenAddressIsAnError(t *testing.T) {
	admin, err := StartAdmin("127.0.0.1:0", new(Checks), NewMetrics("v1", "dev"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	_, err = StartAdmin(admin.Addr(), new(Checks), NewMetrics("v1", "dev"), slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "admin server")
}

func get(t *testing.T, admin *Admin, path string) (int, string) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin.Addr()+path, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

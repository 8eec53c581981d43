package main

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/services/millrace/proof"
)

// ask writes the request to a new connection, and returns the connection and the status of the response.
func ask(t *testing.T, address, request string) (net.Conn, int) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(proof.Patience)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_ = answer.Body.Close()
	return conn, answer.StatusCode
}

func TestConnectionsBeyondTheBoundAreRefusedUntilOneEnds(t *testing.T) {
	const bound, path = 3, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	plain, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := newBoundedListener(plain, bound, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	server := &http.Server{
		Handler:           l.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })),
		ReadHeaderTimeout: proof.Patience,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}()

	var kept []net.Conn
	for range bound {
		conn, status := ask(t, plain.Addr().String(), path)
		require.Equal(t, http.StatusNoContent, status)
		kept = append(kept, conn)
	}
	for i := range spareConnections {
		conn, status := ask(t, plain.Addr().String(), path)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.EqualValues(t, i+1, testutil.ToFloat64(l.refused))
		kept = append(kept, conn)
	}
	over, err := new(net.Dialer).DialContext(t.Context(), "tcp", plain.Addr().String())
	require.NoError(t, err)
	defer func() { _ = over.Close() }()
	_, err = over.Read(make([]byte, 1))
	require.Error(t, err, "it is cut off")

	for _, conn := range kept {
		require.NoError(t, conn.Close())
	}
	proof.Await(t, func() bool { return l.open.Load() == 0 }, "all that ended is counted out")
	_, status := ask(t, plain.Addr().String(), path)
	require.Equal(t, http.StatusNoContent, status)
}

func TestTheBoundOfConnectionsLeavesOpenFilesForTheRest(t *testing.T) {
	room, err := connectionBound(0)
	require.NoError(t, err)
	require.Positive(t, room)
	bound, err := connectionBound(10)
	require.NoError(t, err)
	require.Equal(t, 10, bound)
	_, err = connectionBound(room + 1)
	require.ErrorContains(t, err, "ulimit -n")
}

// A connection to the gateway's port that does not ask for a WebSocket ends with the response, or within the time for the
// handshake, whatever the client leaves out.
func TestNoRequestHoldsAConnection(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	for _, request := range []string{
		"GET /nosuch HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /ws HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
		"POST /dev/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
		"POST /nosuch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
	} {
		t.Run(strings.Fields(request)[1], func(t *testing.T) {
			t.Parallel()
			conn, status := ask(t, d.gateway.Addr(), request)
			require.GreaterOrEqual(t, status, 400)
			_, err := io.Copy(io.Discard, conn)
			require.NoError(t, err, "the gateway ends the connection")
		})
	}
}

// Otherwise a page of a foreign site could get a token for any user by DNS rebinding.
func TestDevAnswersToHostsOfThisMachineAlone(t *testing.T) {
	besideOthers(t)
	d := startDevAs(t, t.TempDir(), []string{"--allowed-origins=http://chat.example.org:8080"})
	for host, want := range map[string]int{
		"localhost": http.StatusOK, "127.0.0.1:8080": http.StatusOK, "[::1]": http.StatusOK, "chat.example.org:8080": http.StatusOK,
		"evil.example.org": http.StatusForbidden, "evil.example.org:8080": http.StatusForbidden, "chat.example.org": http.StatusForbidden,
	} {
		_, status := ask(t, d.gateway.Addr(), "POST /dev/token HTTP/1.1\r\nHost: "+host+"\r\nOrigin: http://"+host+"\r\nContent-Length: 13\r\n\r\n{\"user\":1001}")
		require.Equal(t, want, status, host)
		_, status = ask(t, d.gateway.Addr(), "GET /ws HTTP/1.1\r\nHost: "+host+"\r\nOrigin: http://"+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		require.Equal(t, want == http.StatusOK, status == http.StatusSwitchingProtocols, host)
	}
}

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"millrace/infra/config"
	"millrace/infra/panics"
	"millrace/infra/security"
	"millrace/infra/security/securitytest"
	"millrace/services/millrace/proof"
)

// watchFiles watches the files of a node.
func watchFiles(t *testing.T, files security.TLSFiles) serviceTLS {
	t.Helper()
	w, err := security.WatchTLS(files, "service", prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return serviceTLS{w}
}

// serveNode serves gRPC until the test ends.
func serveNode(t *testing.T, by serviceTLS) *grpcServer {
	t.Helper()
	metrics := prometheus.NewRegistry()
	s, err := newGRPCServer(t.Context(), &config.Config{MessageAddr: "127.0.0.1:0"}, by, nil, metrics, panics.New(metrics, slog.New(slog.DiscardHandler)), nil)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		s.server.Stop()
		require.NoError(t, <-served)
	})
	return s
}

// dialNode dials the server as a gateway dials a node with the name.
func dialNode(t *testing.T, by serviceTLS, name string, s *grpcServer) healthv1.HealthClient {
	t.Helper()
	conn, err := nodesAt(&config.Config{}, by, nil).Dial(name, s.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return healthv1.NewHealthClient(conn)
}

func TestNodesRefuseWhoeverTLSDoesNotLetIn(t *testing.T) {
	mine, theirs := securitytest.NewAuthority(t), securitytest.NewAuthority(t)
	cert, key := mine.Files(t, "node.example", "127.0.0.1")
	own, ownKey := mine.Files(t)
	foreign, foreignKey := theirs.Files(t)
	server := serveNode(t, watchFiles(t, security.TLSFiles{CA: mine.File, Cert: cert, Key: key}))
	for name, test := range map[string]struct {
		by     serviceTLS
		dialed string
		want   codes.Code
	}{
		"by name":                      {watchFiles(t, security.TLSFiles{CA: mine.File, Cert: own, Key: ownKey}), "node.example:9090", codes.OK},
		"by address":                   {watchFiles(t, security.TLSFiles{CA: mine.File, Cert: own, Key: ownKey}), server.Addr(), codes.OK},
		"by another name at its place": {watchFiles(t, security.TLSFiles{CA: mine.File, Cert: own, Key: ownKey}), "other.example:9090", codes.Unavailable},
		"without TLS":                  {serviceTLS{}, "node.example:9090", codes.Unavailable},
		"with another authority":       {watchFiles(t, security.TLSFiles{CA: theirs.File, Cert: own, Key: ownKey}), "node.example:9090", codes.Unavailable},
		"without a certificate":        {watchFiles(t, security.TLSFiles{CA: mine.File}), "node.example:9090", codes.Unavailable},
		"with another's certificate":   {watchFiles(t, security.TLSFiles{CA: mine.File, Cert: foreign, Key: foreignKey}), "node.example:9090", codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dialNode(t, test.by, test.dialed, server).Check(t.Context(), &healthv1.HealthCheckRequest{})
			require.Equal(t, test.want, status.Code(err), err)
		})
	}
	plain := serveNode(t, serviceTLS{})
	_, err := dialNode(t, watchFiles(t, security.TLSFiles{CA: mine.File, Cert: own, Key: ownKey}), "node.example:9090", plain).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "a client does without TLS only where it is told to")
}

func TestANodeWithoutHostIsThisMachine(t *testing.T) {
	authority := securitytest.NewAuthority(t)
	cert, key := authority.Files(t, "localhost")
	server := serveNode(t, watchFiles(t, security.TLSFiles{Cert: cert, Key: key}))
	_, err := dialNode(t, watchFiles(t, security.TLSFiles{CA: authority.File}), ":9090", server).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
}

func TestCertificatesOfNodesAreReplacedWhileStreamsGoOn(t *testing.T) {
	before, after := securitytest.NewAuthority(t), securitytest.NewAuthority(t)
	cert, key := before.Files(t, "node.example")
	own, ownKey := before.Files(t)
	node := watchFiles(t, security.TLSFiles{CA: before.File, Cert: cert, Key: key})
	gateway := watchFiles(t, security.TLSFiles{CA: before.File, Cert: own, Key: ownKey})
	server := serveNode(t, node)
	stream, err := dialNode(t, gateway, "node.example:9090", server).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	goesOn := func(want healthv1.HealthCheckResponse_ServingStatus) {
		server.health.SetServingStatus("", want)
		answer, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, want, answer.GetStatus())
	}
	goesOn(healthv1.HealthCheckResponse_SERVING)
	// The options are made once, as those of a connection that breaks and is made again.
	options := append(dialOptions(&config.Config{}, gateway), grpc.WithAuthority("node.example"))
	shown := func() string {
		conn, err := grpc.NewClient("passthrough:///"+server.Addr(), options...)
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		var p peer.Peer
		_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}, grpc.Peer(&p))
		require.NoError(t, err)
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		require.True(t, ok)
		return info.State.PeerCertificates[0].SerialNumber.String()
	}
	first := shown()

	both, err := os.ReadFile(before.File)
	require.NoError(t, err)
	added, err := os.ReadFile(after.File)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(before.File, append(both, added...), 0o600))
	require.NoError(t, gateway.Reload())
	require.NoError(t, node.Reload())
	require.Equal(t, first, shown())
	after.Issue(t, cert, key, time.Hour, "node.example")
	require.NoError(t, node.Reload())
	second := shown()
	require.NotEqual(t, first, second)
	goesOn(healthv1.HealthCheckResponse_NOT_SERVING)
	after.Issue(t, own, ownKey, time.Hour)
	require.NoError(t, gateway.Reload())
	require.NoError(t, os.WriteFile(before.File, added, 0o600))
	require.NoError(t, node.Reload())
	require.NoError(t, gateway.Reload())
	require.Equal(t, second, shown())

	require.NoError(t, os.WriteFile(cert, []byte("half of a cert"), 0o600))
	require.ErrorContains(t, node.Reload(), cert)
	require.Equal(t, second, shown(), "what was good stays in use")
	goesOn(healthv1.HealthCheckResponse_SERVING)
}

// startTLSGateway runs a gateway without nodes until the test ends.
func startTLSGateway(t *testing.T, flags ...string) (*gatewayServer, *tls.Config) {
	t.Helper()
	authority := securitytest.NewAuthority(t)
	cert, key := authority.Files(t, "127.0.0.1")
	var gateway *gatewayServer
	stop := startInside(t, config.Connect, fx.Populate(&gateway), append([]string{
		"--jwt-secret=" + proof.Secret, "--connect-addr=127.0.0.1:0", "--message-addrs=127.0.0.1:1", "--connect-tls-cert=" + cert, "--connect-tls-key=" + key,
	}, flags...)...)
	t.Cleanup(stop)
	secure, err := security.TLSFiles{CA: authority.File}.Load()
	require.NoError(t, err)
	return gateway, secure
}

// silent opens a connection on which nothing is written.
func silent(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(proof.Patience)))
	return conn
}

// get makes a request with TLS and returns the status.
func get(t *testing.T, address string, secure *tls.Config) (int, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/nosuch", http.NoBody)
	require.NoError(t, err)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

func TestHandshakesThatNeverComeCountAndEnd(t *testing.T) {
	besideOthers(t)
	const bound = 2
	gateway, secure := startTLSGateway(t, "--max-connections=2")
	node := serveNode(t, watchFiles(t, nodeFiles(t)))
	toNode := silent(t, node.Addr())
	var waiting []net.Conn
	for range bound {
		waiting = append(waiting, silent(t, gateway.Addr()))
	}
	proof.Await(t, func() bool {
		status, err := get(t, gateway.Addr(), secure)
		return err == nil && status == http.StatusServiceUnavailable
	}, "what says nothing counts, so that the next is told that there are too many")
	for range spareConnections {
		waiting = append(waiting, silent(t, gateway.Addr()))
	}
	proof.Await(t, func() bool {
		_, err := get(t, gateway.Addr(), secure)
		return err != nil
	}, "beyond the spare ones it is cut off")
	for _, conn := range append(waiting, toNode) {
		_, err := io.Copy(io.Discard, conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server ends it")
		require.NoError(t, conn.Close())
	}
	proof.Await(t, func() bool {
		status, err := get(t, gateway.Addr(), secure)
		return err == nil && status == http.StatusNotFound
	}, "those that said nothing are ended and counted out")
}

// nodeFiles returns files of a node on this machine that requires no certificate from others.
func nodeFiles(t *testing.T) security.TLSFiles {
	t.Helper()
	cert, key := securitytest.NewAuthority(t).Files(t, "127.0.0.1")
	return security.TLSFiles{Cert: cert, Key: key}
}

func TestAGatewayWithTLSTakesNothingElse(t *testing.T) {
	besideOthers(t)
	authority := securitytest.NewAuthority(t)
	gateway, secure := startTLSGateway(t, "--connect-tls-ca="+authority.File)
	conn := silent(t, gateway.Addr())
	_, err := io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, answer.StatusCode)
	require.NoError(t, answer.Body.Close())

	_, err = get(t, gateway.Addr(), secure)
	require.Error(t, err, "it wants a certificate")
	cert, key := authority.Files(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	secure.Certificates = []tls.Certificate{pair}
	secure.NextProtos = []string{"h2", "http/1.1"}
	status, err := get(t, gateway.Addr(), secure)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, status)
	_, err = get(t, gateway.Addr(), &tls.Config{MinVersion: tls.VersionTLS12, Certificates: secure.Certificates})
	require.Error(t, err, "its authority is not trusted")
}

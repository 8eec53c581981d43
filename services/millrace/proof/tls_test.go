package proof

import (
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/security"
	"millrace/infra/security/securitytest"
	"millrace/services/client"
)

// shownBy returns the serial number of the certificate that a server shows.
func shownBy(t *testing.T, address string, files security.TLSFiles, protocol string) string {
	t.Helper()
	secure, err := files.Load()
	require.NoError(t, err)
	secure.NextProtos = []string{protocol}
	conn, err := (&tls.Dialer{Config: secure}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	end, ok := conn.(*tls.Conn)
	require.True(t, ok)
	return end.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// All connections use TLS, those between nodes in both directions. Then certificates and their authority are replaced while
// clients talk.
func TestEndToEndByTLSWhileCertificatesAreReplaced(t *testing.T) {
	t.Parallel()
	free := FreeAddresses(t, 6)
	c := &cluster{t: t, dataDir: t.TempDir()}
	t.Cleanup(c.killAll)
	old, next := securitytest.NewAuthority(t), securitytest.NewAuthority(t)
	certs := t.TempDir()
	at := func(name string) string { return filepath.Join(certs, name) }
	authorities := at("ca.pem")
	trust := func(of ...*securitytest.Authority) {
		var bundle []byte
		for _, authority := range of {
			pem, err := os.ReadFile(authority.File)
			require.NoError(t, err)
			bundle = append(bundle, pem...)
		}
		require.NoError(t, os.WriteFile(authorities, bundle, 0o600))
	}
	issue := func(authority *securitytest.Authority) {
		authority.Issue(t, at("node.pem"), at("node-key.pem"), time.Hour, "localhost", "127.0.0.1")
		authority.Issue(t, at("gateway.pem"), at("gateway-key.pem"), time.Hour, "127.0.0.1")
	}
	trust(old)
	issue(old)
	role := func(name, of string) []string {
		return []string{
			name, "--service-token=a token for nodes", "--service-tls", "--service-tls-ca=" + authorities,
			"--service-tls-cert=" + at(of+".pem"), "--service-tls-key=" + at(of+"-key.pem"),
		}
	}
	c.addEmbedded(free[0], free[1])
	c.add("message", readyURL(free[3]), append(role("message", "node"),
		"--data-dir="+c.dataDir, "--kafka-brokers="+free[0], "--message-addr="+free[2], "--admin-addr="+free[3])...)
	_, port, _ := strings.Cut(free[2], ":")
	c.add("connect", readyURL(free[5]), append(role("connect", "gateway"),
		"--jwt-secret="+Secret, "--connect-addr="+free[4], "--message-addrs=localhost:"+port, "--admin-addr="+free[5],
		"--connect-tls-cert="+at("gateway.pem"), "--connect-tls-key="+at("gateway-key.pem"))...)
	c.startAll(t, c.processes)

	url := "wss://" + free[4] + "/ws"
	join := func(user int64, authority *securitytest.Authority) *User {
		secure, err := security.TLSFiles{CA: authority.File}.Load()
		require.NoError(t, err)
		return joinBy(t, client.Config{URL: url, TLS: secure, OnDisconnect: func(err error, _ time.Duration) {
			if t.Context().Err() == nil {
				t.Errorf("user %d was disconnected: %v", user, err)
			}
		}}, user)
	}
	a, b := join(Alice, old), join(Bob, old)
	talk := func(text string) {
		t.Helper()
		a.Sends(t, client.ToUser(Bob), text)
		require.Equal(t, text, b.Sees(t, "new_message").Message.Content)
	}
	talk("by TLS")

	sends := func(authority string) (string, error) {
		path, err := built.path()
		require.NoError(t, err)
		token, err := Token(Carol)(t.Context())
		require.NoError(t, err)
		said, err := exec.CommandContext(t.Context(), path, "client", "--url="+url, "--tls-ca="+authority, "--token="+token, "--target=1", "--send=hello").CombinedOutput()
		return string(said), err
	}
	said, err := sends(old.File)
	require.NoError(t, err, said)
	require.Contains(t, said, "sent ")
	said, err = sends(next.File)
	require.Error(t, err)
	require.Contains(t, said, "certificate signed by unknown authority")

	message, gateway := c.named("message"), c.named("connect")
	hangup := func() {
		for _, p := range []*process{message, gateway} {
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
		}
	}
	trusted := security.TLSFiles{CA: authorities, Cert: at("gateway.pem"), Key: at("gateway-key.pem")}
	firstOfNode, firstOfGateway := shownBy(t, free[2], trusted, "h2"), shownBy(t, free[4], trusted, "http/1.1")
	trust(old, next)
	hangup()
	issue(next)
	hangup()
	Await(t, func() bool {
		return shownBy(t, free[2], trusted, "h2") != firstOfNode && shownBy(t, free[4], trusted, "http/1.1") != firstOfGateway
	}, "new connections are shown the new certificates")
	trust(next)
	hangup()
	talk("over the connections that there were")
	said, err = sends(next.File)
	require.NoError(t, err, said)

	message.stop(t)
	message.start(t)
	message.awaitReady(t)
	talk("over new connections between nodes")
	require.NoError(t, os.WriteFile(at("gateway.pem"), []byte("half of a cert"), 0o600))
	require.NoError(t, gateway.cmd.Process.Signal(syscall.SIGHUP))
	gateway.says(t, "could not reload", at("gateway.pem"))
	said, err = sends(next.File)
	require.NoError(t, err, said)
	talk("with what was good")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	for _, name := range []string{"connect", "message", "broker"} {
		c.named(name).stop(t)
	}
}

// A proxy that the environment names, for what goes out of a network, is not asked to reach nodes: it would learn the token.
func TestNodesAreReachedWithoutTheProxyOfTheEnvironment(t *testing.T) {
	proxy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var asked atomic.Int64
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_ = conn.Close()
		}
	})
	defer serving.Wait()
	defer proxy.Close()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		t.Setenv(name, "http://"+proxy.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	free := FreeAddresses(t, 1)
	c := &cluster{t: t, dataDir: t.TempDir()}
	t.Cleanup(c.killAll)
	// This machine by an address that is not loopback, which is reached without a proxy anyway; nobody listens there.
	c.add("connect", readyURL(free[0]), "connect", "--jwt-secret="+Secret, "--connect-addr=127.0.0.1:0", "--admin-addr="+free[0], "--message-addrs=0.0.0.0:1")
	gateway := c.named("connect")
	gateway.start(t)
	gateway.says(t, "no stream to message node", "0.0.0.0:1")
	require.Zero(t, asked.Load())
	gateway.stop(t)
}

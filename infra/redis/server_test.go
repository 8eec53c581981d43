package redis

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a redis-server of the test's own, which can be stopped, frozen and started again.
type server struct {
	address string
	args    []string
	process *exec.Cmd
}

// startServer starts a server that listens without TLS, or with TLS if it gets arguments for it.
func startServer(t *testing.T, tls ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("needs redis-server: apt-get install redis-server")
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{address: listener.Addr().String()}
	require.NoError(t, listener.Close())
	_, port, err := net.SplitHostPort(s.address)
	require.NoError(t, err)
	s.args = []string{"--port", port}
	if len(tls) > 0 {
		s.args = append(tls, "--port", "0", "--tls-port", port)
	}
	s.args = append(s.args, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(), "--requirepass", "secret")
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	s.process = exec.CommandContext(context.WithoutCancel(t.Context()), "redis-server", s.args...)
	require.NoError(t, s.process.Start())
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
}

func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait() // returns the error that it was killed
}

func (s *server) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	require.NoError(t, s.process.Process.Signal(sig))
}

func (s *server) freeze(t *testing.T) { t.Helper(); s.signal(t, syscall.SIGSTOP) }
func (s *server) thaw(t *testing.T)   { t.Helper(); s.signal(t, syscall.SIGCONT) }

func open(t *testing.T, s *server, log *slog.Logger) *Client {
	t.Helper()
	return openWith(t, Config{Address: s.address, Password: "secret"}, log)
}

func openWith(t *testing.T, config Config, log *slog.Logger) *Client {
	t.Helper()
	c, err := Open(config, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

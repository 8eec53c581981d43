package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/infra/security/securitytest"
)

// said collects what was logged.
type said struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (s *said) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.Write(line)
}

// take returns what was logged since the last call.
func (s *said) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.lines.Reset()
	return s.lines.String()
}

// serial returns the serial number of the certificate in use.
func (w *WatchedTLS) serial() string {
	return w.current.Load().Certificates[0].Leaf.SerialNumber.String()
}

// handshake makes a TLS connection in memory, reads a byte, and returns the server's certificate or the error of either end.
func handshake(t *testing.T, server, client *tls.Config) (peer *x509.Certificate, err error) {
	t.Helper()
	near, far := net.Pipe()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer near.Close()
	for _, end := range []net.Conn{near, far} { // both may wait for the other to read, where one should have refused
		require.NoError(t, end.SetDeadline(time.Now().Add(10*time.Second)))
	}
	serving.Go(func() {
		defer far.Close()
		end := tls.Server(far, server)
		if end.HandshakeContext(t.Context()) == nil {
			_, _ = end.Write([]byte{1})
		}
	})
	end := tls.Client(near, client)
	if _, err := end.Read(make([]byte, 1)); err != nil { // with TLS 1.3 a client learns only here that its certificate is refused
		return nil, err
	}
	return end.ConnectionState().PeerCertificates[0], nil
}

func TestFilesForTLSThatChangeAreTakenAndBrokenOnesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := securitytest.NewAuthority(t)
		cert, key := authority.Files(t, "localhost")
		var lines said
		w, err := WatchTLS(TLSFiles{Cert: cert, Key: key}, "service", prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&lines, nil)))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		look := func() {
			time.Sleep(watchEvery) // of the bubble
			synctest.Wait()
		}
		first := w.serial()
		before := w.Client()
		look()
		require.Same(t, before, w.Client(), "what has not changed is not taken anew")

		authority.Issue(t, cert, key, 2*time.Hour, "localhost")
		look()
		second := w.serial()
		require.NotEqual(t, first, second)
		require.EqualValues(t, w.Client().Certificates[0].Leaf.NotAfter.Unix(), testutil.ToFloat64(w.expiry))

		whole, err := os.ReadFile(cert)
		require.NoError(t, err)
		itsKey, err := os.ReadFile(key)
		require.NoError(t, err)
		for _, broken := range []func(){
			func() { require.NoError(t, os.WriteFile(cert, whole[:len(whole)/2], 0o600)) },
			func() { require.NoError(t, os.Remove(cert)) },
			func() { authority.Issue(t, cert, key+".other", time.Hour, "localhost") },
			func() { authority.Issue(t, cert, key, -time.Hour, "localhost") },
		} {
			broken()
			look()
			look()
			require.Equal(t, second, w.serial(), "the old pair stays in use")
			require.EqualValues(t, 1, testutil.ToFloat64(w.unusable))
			told := lines.take()
			require.Equal(t, 1, strings.Count(told, "level=ERROR"), "told once: %s", told)
			require.Contains(t, told, cert)
			require.Error(t, w.Reload())
		}
		require.NoError(t, os.WriteFile(cert, whole, 0o600))
		require.NoError(t, os.WriteFile(key, itsKey, 0o600))
		require.NoError(t, w.Reload(), "the files are as they were read")
		require.Zero(t, testutil.ToFloat64(w.unusable))
		cancel()
		require.NoError(t, <-done)
	})
}

func TestHandshakesGoByTheFilesAsTheyAre(t *testing.T) {
	mine, theirs := securitytest.NewAuthority(t), securitytest.NewAuthority(t)
	watch := func(files TLSFiles) *WatchedTLS {
		w, err := WatchTLS(files, "service", prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return w
	}
	client := func(w *WatchedTLS, host string) *tls.Config {
		c := w.Client().Clone()
		c.ServerName = host
		return c
	}
	cert, key := mine.Files(t, "node.example")
	own, ownKey := mine.Files(t)
	foreign, foreignKey := theirs.Files(t, "node.example")
	one := watch(TLSFiles{Cert: cert, Key: key}).Server("h2")
	mutual := watch(TLSFiles{CA: mine.File, Cert: cert, Key: key})

	_, err := handshake(t, one, client(watch(TLSFiles{CA: mine.File}), "node.example"))
	require.NoError(t, err, "without an authority nobody needs a certificate")
	_, err = handshake(t, mutual.Server("h2"), client(watch(TLSFiles{CA: mine.File, Cert: own, Key: ownKey}), "node.example"))
	require.NoError(t, err)
	for name, test := range map[string]struct {
		files TLSFiles
		host  string
	}{
		"a client that trusts another authority": {TLSFiles{CA: theirs.File, Cert: own, Key: ownKey}, "node.example"},
		"a client that asks for another host":    {TLSFiles{CA: mine.File, Cert: own, Key: ownKey}, "other.example"},
		"a client that trusts the system's":      {TLSFiles{Cert: own, Key: ownKey}, "node.example"},
		"a client without a certificate":         {TLSFiles{CA: mine.File}, "node.example"},
		"a client of another authority":          {TLSFiles{CA: mine.File, Cert: foreign, Key: foreignKey}, "node.example"},
	} {
		_, err := handshake(t, mutual.Server("h2"), client(watch(test.files), test.host))
		require.Error(t, err, name)
		require.False(t, errors.Is(err, net.ErrClosed), name)
	}

	// Another authority takes over while the server runs.
	server := mutual.Server("h2")
	moved, err := os.ReadFile(theirs.File)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(mine.File, moved, 0o600))
	theirs.Issue(t, cert, key, time.Hour, "node.example")
	require.NoError(t, mutual.Reload())
	_, err = handshake(t, server, client(watch(TLSFiles{CA: theirs.File, Cert: own, Key: ownKey}), "node.example"))
	require.Error(t, err, "the authority of its certificate is gone")
	peer, err := handshake(t, server, client(watch(TLSFiles{CA: theirs.File, Cert: foreign, Key: foreignKey}), "node.example"))
	require.NoError(t, err)
	require.Equal(t, mutual.serial(), peer.SerialNumber.String())
}

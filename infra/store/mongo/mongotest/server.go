// Package mongotest gives tests a server that speaks the MongoDB wire protocol: the one that MILLRACE_TEST_MONGODB_URI
// names, otherwise FerretDB over SQLite files, built from deployments/ferretdb and run for one test.
package mongotest

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	uriEnv = "MILLRACE_TEST_MONGODB_URI"
	// buildTimeout is for a build from nothing on a busy machine.
	buildTimeout = 8 * time.Minute
	startTimeout = 30 * time.Second
)

// Server is a running server.
type Server struct {
	// URI is the server's address without a database.
	URI string
	// Ferret is set if the server is FerretDB, which lacks some features; tests that use it say what they leave out.
	Ferret bool

	stop func()
}

// Start returns a server that runs until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	if uri := os.Getenv(uriEnv); uri != "" {
		return &Server{URI: uri, stop: func() {}}
	}
	return startFerret(t)
}

// StartTLS is like [Start] for a FerretDB that requires TLS with the certificate, which is also the authority of its clients.
func StartTLS(t testing.TB, certFile, keyFile string) *Server {
	t.Helper()
	return startFerret(t, certFile, keyFile, certFile)
}

func startFerret(t testing.TB, args ...string) *Server {
	t.Helper()
	server := exec.CommandContext(context.WithoutCancel(t.Context()), build(t), append([]string{t.TempDir()}, args...)...)
	server.Stderr = os.Stderr
	alive, err := server.StdinPipe() // the server ends when this is closed, also if the test is killed
	require.NoError(t, err)
	said, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	s := &Server{Ferret: true}
	s.stop = func() {
		_ = alive.Close()
		_ = server.Wait()
		s.stop = func() {}
	}
	t.Cleanup(func() { s.stop() })

	line := make(chan string, 1)
	go func() {
		uri, _ := bufio.NewReader(said).ReadString('\n')
		line <- strings.TrimSpace(uri)
		_, _ = io.Copy(io.Discard, said)
	}()
	select {
	case s.URI = <-line:
		require.NotEmpty(t, s.URI, "FerretDB ended before it listened")
	case <-time.After(startTimeout):
		require.FailNow(t, "FerretDB does not listen")
	}
	return s
}

// Stop ends the server, which must be FerretDB, before the test does.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	require.True(t, s.Ferret, "a server that others may use is not stopped")
	s.stop()
}

// Database returns the URI of an empty database that is dropped when the test ends.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	base, query, _ := strings.Cut(s.URI, "?")
	scheme, hosts, _ := strings.Cut(base, "://")
	hosts, _, _ = strings.Cut(hosts, "/")
	uri := fmt.Sprintf("%s://%s/%s?%s", scheme, hosts, name, query)
	t.Cleanup(func() {
		if s.Ferret {
			return // its files are removed with the test
		}
		client, err := mongo.Connect(options.Client().ApplyURI(s.URI))
		require.NoError(t, err)
		ctx := context.WithoutCancel(t.Context())
		require.NoError(t, client.Database(name).Drop(ctx))
		require.NoError(t, client.Disconnect(ctx))
	})
	return uri
}

// build returns the path of the FerretDB binary. Several test processes may call it at once. It takes a minute or two the
// first time, and a moment when nothing has changed.
func build(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	require.NoError(t, err)
	source := filepath.Join("deployments", "ferretdb")
	for !isFile(filepath.Join(root, source, "go.mod")) {
		require.NotEqual(t, filepath.Dir(root), root, "no deployments/ferretdb above the test")
		root = filepath.Dir(root)
	}
	dir := filepath.Join(root, ".cache", "ferretdb")
	require.NoError(t, os.MkdirAll(dir, 0o750))
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	lock := flock.New(filepath.Join(dir, "lock"))
	_, err = lock.TryLockContext(ctx, 100*time.Millisecond)
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Unlock()) }()

	binary := filepath.Join(dir, "ferretdb")
	compile := exec.CommandContext(ctx, "go", "build", "-tags", "ferretdb_no_postgresql", "-o", binary, ".")
	compile.Dir = filepath.Join(root, source)
	out, err := compile.CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

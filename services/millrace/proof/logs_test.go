package proof

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/security/securitytest"
)

// throw opens a connection, writes what no server expects, and waits until the connection is closed.
func throw(t *testing.T, address string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("neither TLS nor HTTP\r\n\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(Patience)))
	for err == nil {
		_, err = conn.Read(make([]byte, 512))
	}
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// A process writes its whole log in one format, whatever its libraries log: about connections with garbage, nodes that do not
// respond, and a key set that is out of reach.
func TestLibrariesWriteIntoTheLogOfTheProcess(t *testing.T) {
	t.Parallel()
	free := FreeAddresses(t, 7)
	dir := t.TempDir()
	c := &cluster{t: t, dataDir: t.TempDir()}
	t.Cleanup(c.killAll)
	c.addEmbedded(free[4], free[6])
	c.startAll(t, c.processes)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	securitytest.NewAuthority(t).Issue(t, cert, key, time.Hour, "127.0.0.1")
	path, err := built.path()
	require.NoError(t, err)
	for name, test := range map[string]struct {
		port, admin string
		args        []string
		libraries   []string
	}{
		"gateway": {
			free[0], free[1],
			[]string{
				"connect", "--connect-addr=" + free[0], "--connect-tls-cert=" + cert, "--connect-tls-key=" + key,
				"--jwks-url=http://" + free[5] + "/keys", "--message-addrs=" + free[2],
			},
			[]string{"grpc", "net/http"},
		},
		"message node": {
			free[2], free[3],
			[]string{"message", "--data-dir=" + filepath.Join(dir, "data"), "--message-addr=" + free[2], "--kafka-brokers=" + free[4]},
			[]string{"grpc"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			require.NoError(t, err)
			defer func() { _ = log.Close() }()
			cmd := exec.CommandContext(t.Context(), path, append(test.args, "--admin-addr="+test.admin, "--log-format=json", "--log-level=debug")...)
			cmd.Stderr = log
			require.NoError(t, cmd.Start())
			(&process{name: name, ready: test.port}).awaitReady(t)
			seen := map[string]bool{}
			Await(t, func() bool {
				throw(t, test.port)
				throw(t, test.admin)
				text, err := os.ReadFile(log.Name())
				require.NoError(t, err)
				for line := range strings.Lines(string(text)) {
					if !strings.HasSuffix(line, "\n") {
						break // the line is being written
					}
					var record struct{ Time, Level, Msg, Role, Library string }
					require.NoError(t, json.Unmarshal([]byte(line), &record), line)
					require.NotEmpty(t, record.Time, line)
					require.NotEmpty(t, record.Level, line)
					require.NotEmpty(t, record.Msg, line)
					require.NotEmpty(t, record.Role, line)
					seen[record.Library] = true
				}
				for _, library := range test.libraries {
					if !seen[library] {
						return false
					}
				}
				return true
			}, "lines of "+strings.Join(test.libraries, ", "))
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, cmd.Wait())
		})
	}
}

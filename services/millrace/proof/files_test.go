package proof

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"millrace/services/client"
)

// When few open files are allowed, masses of clients are refused before the broker and the store run short, and those that
// are connected go on.
func TestConnectionsLeaveOpenFilesForBrokerAndStore(t *testing.T) {
	t.Parallel()
	const openFiles, crowd = 256, 300
	millrace, err := built.path()
	require.NoError(t, err)
	free := FreeAddresses(t, 4)
	dir := t.TempDir()
	p := &process{
		name: "dev", path: "/bin/sh", ready: readyURL(free[0]), log: filepath.Join(dir, "log"),
		args: []string{
			"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, openFiles), millrace, "dev", "--data-dir=" + filepath.Join(dir, "data"),
			"--jwt-secret=" + Secret, "--admin-addr=" + free[0], "--connect-addr=" + free[1], "--message-addr=" + free[2], "--embedded-kafka-addr=" + free[3],
		},
	}
	p.start(t)
	defer p.kill()
	p.awaitReady(t)

	url := "ws://" + free[1] + "/ws"
	alice, bob := Join(t, url, Alice, nil), Join(t, url, Bob, nil)
	refused := 0
	for range crowd {
		conn, response, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
		if err == nil {
			defer func() { _ = conn.Close() }()
			continue
		}
		refused++
		if response != nil {
			require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
			_ = response.Body.Close()
		}
	}
	require.GreaterOrEqual(t, refused, crowd-openFiles/2)
	// The messages go to many conversations, so that the broker opens the files of many partitions.
	for i := range 200 {
		alice.Sends(t, client.ToUser(Bob), fmt.Sprint(i))
		alice.Sends(t, client.ToUser(int64(50_000+i)), "hello")
	}
	require.Equal(t, Numbered(0, 200), bob.Reads(t, 200))
	require.Contains(t, Scrape(t, "http://"+free[0]+"/metrics"), "millrace_connections_refused_total")
}

package proof

import (
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

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
	var refused atomic.Int64
	var dialing errgroup.Group
	for range crowd { // at once, because the gateway soon closes those that do not connect
		dialing.Go(func() error {
			conn, response, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
			if err == nil {
				t.Cleanup(func() { _ = conn.Close() })
				return nil
			}
			refused.Add(1)
			if response == nil {
				return nil
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusServiceUnavailable {
				return fmt.Errorf("refused with status %d", response.StatusCode)
			}
			return nil
		})
	}
	require.NoError(t, dialing.Wait())
	require.GreaterOrEqual(t, refused.Load(), int64(crowd-openFiles/2))
	// The messages go to many conversations, so that the broker opens the files of many partitions.
	for i := range 200 {
		alice.Sends(t, client.ToUser(Bob), fmt.Sprint(i))
		alice.Sends(t, client.ToUser(int64(50_000+i)), "hello")
	}
	require.Equal(t, Numbered(0, 200), bob.Reads(t, 200))
	require.Contains(t, Scrape(t, "http://"+free[0]+"/metrics"), "millrace_connections_refused_total")
}

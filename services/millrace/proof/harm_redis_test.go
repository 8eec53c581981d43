package proof

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Redis is killed, comes back empty, and hangs; nobody notices.
func TestHarmRedisThatIsGoneOrHangsLosesDoublesAndDisordersNothing(t *testing.T) {
	NeedsHarm(t)
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs redis-server: apt-get install redis-server")
	}
	free := FreeAddresses(t, 3)
	c := &cluster{t: t, dataDir: t.TempDir()}
	c.addEmbedded(free[0], free[2])
	redis := &process{
		name: "redis", path: path, ready: free[1], log: filepath.Join(c.dataDir, "redis.log"),
		args: []string{"--port", port(t, free[1]), "--bind", "127.0.0.1", "--save", "", "--dir", c.dataDir},
	}
	redis.start(t)
	redis.awaitReady(t)
	t.Cleanup(redis.kill)
	c.startOn(t, free[:1], "--redis-addr="+free[1])
	ctx, cancel := context.WithTimeout(t.Context(), 4*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	crowd.GoesOn("with Redis")
	redis.kill()
	crowd.GoesOn("without Redis")
	redis.start(t)
	crowd.GoesOn("after it came back")
	require.NoError(t, redis.cmd.Process.Signal(syscall.SIGSTOP))
	crowd.GoesOn("while it hangs")
	require.NoError(t, redis.cmd.Process.Signal(syscall.SIGCONT))
	crowd.End(ctx)
	c.stopAll()
}

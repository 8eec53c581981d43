package proof

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// startRedis starts a Redis of the cluster's own.
func (c *cluster) startRedis() *process {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		c.t.Skip("needs redis-server: apt-get install redis-server")
	}
	at := FreeAddresses(c.t, 1)[0]
	redis := &process{
		name: "redis", path: path, ready: at, log: filepath.Join(c.dataDir, "redis.log"),
		args: []string{"--port", port(c.t, at), "--bind", "127.0.0.1", "--save", "", "--dir", c.dataDir},
	}
	redis.start(c.t)
	c.t.Cleanup(redis.kill)
	redis.awaitReady(c.t)
	return redis
}

// Redis is killed, comes back empty, and hangs; nobody notices.
func TestHarmRedisThatIsGoneOrHangsLosesDoublesAndDisordersNothing(t *testing.T) {
	NeedsHarm(t)
	c := &cluster{t: t, dataDir: t.TempDir()}
	redis := c.startRedis()
	c.startEmbedded("--redis-addr=" + redis.ready)
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

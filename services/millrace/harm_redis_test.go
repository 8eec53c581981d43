package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Redis is killed, comes back having forgotten everything, and hangs; nobody notices.
func TestHarmRedisThatIsGoneOrHangsLosesDoublesAndDisordersNothing(t *testing.T) {
	needsHarm(t)
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs redis-server: apt-get install redis-server")
	}
	free := freeAddresses(t, 3)
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
	ctx, cancel := context.WithTimeout(t.Context(), 4*healing)
	defer cancel()
	crowd := startCrowd(ctx, t, c.gateways)
	crowd.goesOn("with Redis")
	redis.kill()
	crowd.goesOn("without Redis")
	redis.start(t)
	crowd.goesOn("after it came back")
	require.NoError(t, redis.cmd.Process.Signal(syscall.SIGSTOP))
	crowd.goesOn("while it hangs")
	require.NoError(t, redis.cmd.Process.Signal(syscall.SIGCONT))
	crowd.end(ctx)
	c.stopAll()
}

package proof

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallDisk makes the directory a file system of its own with little room, but enough for the store's write-ahead log, which
// may grow to 40 MB.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("needs to mount a small file system, as root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
}

// fill uses all the room that is left, until the function that it returns is called.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	require.NoError(t, err)
	for err == nil {
		_, err = file.Write(make([]byte, 4<<10))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	if err := file.Close(); !errors.Is(err, syscall.ENOSPC) {
		require.NoError(t, err)
	}
	return func() { require.NoError(t, os.Remove(path)) }
}

// toldByAlert requires that the message nodes stay ready while the metric that an alert watches grows.
func (c *cluster) toldByAlert(t *testing.T, before float64, metric func() float64) {
	t.Helper()
	EventuallyTrue(t, "the metric of the alert grows", func() bool { return metric() > before })
	for _, name := range []string{"message-1", "message-2"} {
		code, why := Asks(t, c.named(name).ready)
		require.Equal(t, http.StatusOK, code, why)
	}
}

// First the disk of the broker is full, also while the broker is killed, and then the disk of the store. What was accepted is
// kept, what cannot be accepted is refused, and everything goes on when there is room again.
func TestHarmFullDisks(t *testing.T) {
	NeedsHarm(t)
	t.Parallel()
	c := &cluster{t: t, dataDir: t.TempDir()}
	logDir, storeDir := filepath.Join(c.dataDir, "kafka"), filepath.Join(c.dataDir, "store")
	smallDisk(t, logDir)
	smallDisk(t, storeDir)
	c.startEmbedded("--data-dir="+storeDir, "--audit-file="+filepath.Join(c.dataDir, "audit.log"))
	ctx, cancel := context.WithTimeout(t.Context(), 6*Healing)
	defer cancel()
	crowd := StartCrowd(ctx, t, c.gateways)
	crowd.GoesOn("before")
	total := func(name, label string, processes ...string) (n float64) {
		for _, p := range processes {
			n += c.named(p).metric(t, name, label)
		}
		return n
	}

	refused := func() float64 {
		return total("millrace_sends_total", `result="unavailable"`, "connect-1", "connect-2")
	}
	unpublished := func() float64 {
		return total("millrace_publish_records_total", `result="error"`, "message-1", "message-2")
	}
	for _, killed := range []bool{false, true} {
		before, untold := refused(), unpublished()
		empty := fill(t, logDir)
		EventuallyTrue(t, "sends are refused while the broker's disk is full", func() bool { return refused() >= before+20 })
		c.toldByAlert(t, untold, unpublished)
		if killed {
			c.named("broker").kill()
		}
		empty()
		if killed {
			c.named("broker").start(t)
		}
		crowd.GoesOn("the broker has room again")
	}

	failed := func() float64 {
		return total("millrace_store_errors_total", `operation="save_batch"`, "message-1", "message-2")
	}
	before := failed()
	empty := fill(t, storeDir)
	EventuallyTrue(t, "the store fails while its disk is full", func() bool { return failed() >= before+20 })
	c.toldByAlert(t, 1, func() float64 {
		return c.named("message-1").metric(t, "millrace_consumer_lag_seconds", `group="storage-consumer-group"`)
	})
	watch := crowd.watches.start()
	crowd.GoesOn("while the store's disk is full")
	EventuallyTrue(t, "everybody is shown messages meanwhile", func() bool {
		_, delivered := crowd.watches.of(watch)
		return delivered > 0
	})
	empty()
	crowd.End(ctx)
	c.stopAll()
}

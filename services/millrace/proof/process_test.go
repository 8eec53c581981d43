package proof

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stopLimit is the time within which a process must have stopped after SIGTERM.
const stopLimit = 10 * time.Second

// process is a separate process: millrace, unless path names another program.
type process struct {
	name  string
	path  string
	args  []string
	env   []string // beside the test's own
	ready string   // the address that responds once the process is ready: host:port, or an http URL
	exit  int      // the code with which it ends after SIGTERM
	cmd   *exec.Cmd
	log   string

	harmed sync.Mutex // held by the chaos that concerns the process
}

func readyURL(admin string) string { return "http://" + admin + "/readyz" }

func (p *process) start(t testing.TB) {
	t.Helper()
	require.NoError(t, p.run(t.Context()))
}

// run starts the process, which ends with the context at the latest. Its API gets a port of its own, because tests run side by
// side.
func (p *process) run(ctx context.Context) error {
	path := p.path
	if path == "" {
		var err error
		if path, err = built.path(); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	p.cmd = exec.CommandContext(ctx, path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = slices.Concat(os.Environ(), []string{"MILLRACE_API_ADDR=127.0.0.1:0"}, p.env)
	return p.cmd.Start()
}

// awaitReady waits until the process reports that it is ready.
func (p *process) awaitReady(t testing.TB) {
	t.Helper()
	if !assert.Eventually(t, func() bool { return p.isReady(t.Context()) }, Patience, 20*time.Millisecond) {
		if strings.HasPrefix(p.ready, "http") {
			for _, what := range []string{"/readyz", "/debug/pprof/goroutine?debug=1"} {
				status, said := Asks(t, strings.Replace(p.ready, "/readyz", what, 1))
				t.Logf("%s of %s: %d %s", what, p.name, status, said)
			}
		}
		require.FailNow(t, p.name+" is not ready")
	}
}

func (p *process) isReady(ctx context.Context) bool {
	if !strings.HasPrefix(p.ready, "http") {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.ready)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ready, nil)
	if err != nil {
		return false
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		_ = response.Body.Close()
	}
	return err == nil && response.StatusCode == http.StatusOK
}

// runs reports whether the process was started and not waited for since.
func (p *process) runs() bool { return p.cmd != nil && p.cmd.ProcessState == nil }

// kill ends the process with SIGKILL, if it runs.
func (p *process) kill() {
	if !p.runs() {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // returns the error that it was killed
}

// stop asks the process to stop and requires that it does within the limit.
func (p *process) stop(t *testing.T) {
	t.Helper()
	begin := time.Now()
	require.NoError(t, p.halt())
	if took := time.Since(begin); took > stopLimit {
		t.Errorf("%s took %s to stop", p.name, took)
	}
}

// halt asks the process to stop, and returns how it ended if not in order.
func (p *process) halt() error {
	force := time.AfterFunc(Patience, func() { _ = p.cmd.Process.Kill() })
	defer force.Stop()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	_ = p.cmd.Wait() // the code says everything
	if code := p.cmd.ProcessState.ExitCode(); code != p.exit {
		return fmt.Errorf("%s did not end in order: code %d", p.name, code)
	}
	return nil
}

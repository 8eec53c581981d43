package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/stretchr/testify/require"
)

// stopLimit is within which a process must have stopped after SIGTERM.
const stopLimit = 10 * time.Second

// process is a process of its own, millrace unless a path says otherwise.
type process struct {
	name  string
	path  string
	args  []string
	ready string // address that answers once the process is ready: host:port, or an http URL
	exit  int    // code with which it ends after SIGTERM
	cmd   *exec.Cmd
	log   string
}

// cluster is the system as separate processes over one data directory: brokers, two message nodes, two gateways and a
// worker that runs the audit handler.
type cluster struct {
	t         *testing.T
	dataDir   string
	processes []*process // brokers first
	brokers   int        // how many of them are brokers
	log       []string   // where these are
	gateways  []string   // URLs

	// split gives storing to two workers of their own, and puts a proxy between each gateway and each message node.
	split   bool
	proxies []*toxiproxy.Proxy
}

// startCluster starts everything on one embedded broker.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dataDir: t.TempDir()}
	c.startEmbedded()
	return c
}

func (c *cluster) startEmbedded(flags ...string) {
	c.t.Helper()
	free := freeAddresses(c.t, 2)
	c.addEmbedded(free[0], free[1])
	c.startOn(c.t, free[:1], flags...)
}

func (c *cluster) addEmbedded(address, admin string) {
	c.add("broker", readyURL(admin), "broker", "--data-dir="+c.dataDir, "--embedded-kafka-addr="+address, "--admin-addr="+admin)
}

// newcomer is a storage worker that is not started with the others.
const newcomer = "storage-3"

// startSplitCluster starts everything on one embedded broker, with storage workers and proxies.
func startSplitCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dataDir: t.TempDir(), split: true}
	c.startEmbedded()
	return c
}

// startOn starts the brokers, which were added, and everything else on them. Flags are for those that create topics, and
// win over the usual ones.
func (c *cluster) startOn(t *testing.T, brokers []string, flags ...string) {
	t.Helper()
	t.Cleanup(c.killAll)
	c.startAll(t, c.processes)
	c.brokers, c.log = len(c.processes), brokers
	free := freeAddresses(t, 12)
	messages := free[:2]
	flags = append([]string{"--data-dir=" + c.dataDir, "--kafka-brokers=" + strings.Join(brokers, ",")}, flags...)
	handlers := []string{"--handlers=storage,push"}
	if c.split {
		handlers = []string{"--handlers=push"}
	}
	for i, address := range messages {
		admin := free[2+i]
		c.add(fmt.Sprintf("message-%d", i+1), readyURL(admin), slices.Concat(
			[]string{"message", "--message-addr=" + address, "--admin-addr=" + admin}, handlers, flags)...)
	}
	if c.split {
		for i, admin := range free[9:11] {
			c.add(fmt.Sprintf("storage-%d", i+1), readyURL(admin),
				append([]string{"worker", "--handlers=storage", "--admin-addr=" + admin}, flags...)...)
		}
	}
	for i, address := range free[4:6] {
		admin := free[6+i]
		reached := messages
		if c.split {
			reached = c.proxied(fmt.Sprintf("connect-%d", i+1), messages)
		}
		c.add(fmt.Sprintf("connect-%d", i+1), readyURL(admin), "connect", "--jwt-secret="+secret,
			"--connect-addr="+address, "--message-addrs="+strings.Join(reached, ","), "--admin-addr="+admin)
		c.gateways = append(c.gateways, "ws://"+address+"/ws")
	}
	c.add("worker", readyURL(free[8]), append([]string{"worker", "--handlers=audit", "--admin-addr=" + free[8]}, flags...)...)
	c.startAll(t, c.processes[c.brokers:])
	if c.split {
		c.add(newcomer, readyURL(free[11]), append([]string{"worker", "--handlers=storage", "--admin-addr=" + free[11]}, flags...)...)
	}
}

// startAll starts processes and waits until they are ready.
func (c *cluster) startAll(t *testing.T, processes []*process) {
	t.Helper()
	for _, p := range processes {
		p.start(t)
	}
	for _, p := range processes {
		p.awaitReady(t)
	}
}

func readyURL(admin string) string { return "http://" + admin + "/readyz" }

func (c *cluster) add(name, ready string, args ...string) {
	c.processes = append(c.processes, &process{
		name: name, ready: ready, args: append(args, "--log-level=warn"), log: filepath.Join(c.dataDir, name+".log"),
	})
}

func (c *cluster) named(name string) *process {
	for _, p := range c.processes {
		if p.name == name {
			return p
		}
	}
	c.t.Fatalf("no process %s", name)
	return nil
}

func (c *cluster) killAll() {
	for _, p := range c.processes {
		p.kill()
	}
	if !c.t.Failed() {
		return
	}
	for _, p := range c.processes {
		log, _ := os.ReadFile(p.log)
		c.t.Logf("the end of the log of %s:\n%s", p.name, log[max(0, len(log)-20_000):])
	}
}

// stopAll stops the processes like Ctrl-C does, gateways first and the broker last. Of several brokers the last ones could
// not leave in order for want of a quorum.
func (c *cluster) stopAll() {
	names := []string{"connect-1", "connect-2", "worker", "message-1", "message-2"}
	if c.split {
		names = append(names, "storage-1", "storage-2")
	}
	for _, name := range names {
		c.named(name).stop(c.t)
	}
	if c.brokers == 1 {
		c.processes[0].stop(c.t)
	}
}

func (p *process) start(t *testing.T) {
	t.Helper()
	require.NoError(t, p.run(t.Context()))
}

// run starts the process, which ends with the context at the latest.
func (p *process) run(ctx context.Context) error {
	path := p.path
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	p.cmd = exec.CommandContext(ctx, path, p.args...)
	p.cmd.Env = append(os.Environ(), playMillrace+"=1")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	return p.cmd.Start()
}

// awaitReady waits until the process answers that it is ready.
func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return p.isReady(t.Context()) }, patience, 20*time.Millisecond, "%s is not ready", p.name)
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

// kill ends the process with SIGKILL, if it runs.
func (p *process) kill() {
	if p.cmd == nil || p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed
}

// stop asks the process to stop and holds it to the limit.
func (p *process) stop(t *testing.T) {
	t.Helper()
	begin := time.Now()
	require.NoError(t, p.halt())
	if took := time.Since(begin); took > stopLimit {
		t.Errorf("%s took %s to stop", p.name, took)
	}
}

// halt asks the process to stop and says how it did, if not in order.
func (p *process) halt() error {
	force := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer force.Stop()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	_ = p.cmd.Wait() // the code says all
	if code := p.cmd.ProcessState.ExitCode(); code != p.exit {
		return fmt.Errorf("%s did not end in order: code %d", p.name, code)
	}
	return nil
}

// firstPortEnv names the first of the 10,000 ports that processes get. Tests that run at the same time should have others.
const firstPortEnv = "MILLRACE_TEST_FIRST_PORT"

// portsTried counts them, of all tests.
var portsTried atomic.Int64

// freeAddresses finds loopback addresses nobody listens on. The ports lie below those that the system hands out to outgoing
// connections, and none comes again soon: while a process is down, or is yet to listen, nobody takes its address by chance.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	const ports = 10_000
	first := int64(20_000)
	if value := os.Getenv(firstPortEnv); value != "" {
		var err error
		first, err = strconv.ParseInt(value, 10, 32)
		require.NoError(t, err)
	}
	start := int64(os.Getpid()) * 100
	addresses := make([]string, 0, n)
	for tries := 0; len(addresses) < n; tries++ {
		require.Less(t, tries, ports, "no free address")
		address := fmt.Sprintf("127.0.0.1:%d", first+(start+portsTried.Add(1))%ports)
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }()
		addresses = append(addresses, address)
	}
	return addresses
}

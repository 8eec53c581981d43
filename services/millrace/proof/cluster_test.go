package proof

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
)

// cluster is the system as separate processes over one data directory: brokers, two message nodes, two gateways and a
// worker that runs the audit handler, as "worker".
type cluster struct {
	t         *testing.T
	dataDir   string
	processes []*process // brokers first
	brokers   int        // how many of them are brokers
	log       []string   // where these are
	messages  []string   // the addresses of the message nodes
	gateways  []string   // URLs

	// split runs two storage workers of their own, and puts a proxy between each gateway and each message node.
	split   bool
	proxies []*toxiproxy.Proxy

	// apart runs storage, push and audit in workers of their own, which have the names of their handlers. With push run those
	// that work only beside it.
	apart bool

	deciding []string // flags of the message nodes for rules and hooks

	mongoDB *process // what everything is stored in; nil: SQLite
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
	free := FreeAddresses(c.t, 2)
	c.addEmbedded(free[0], free[1])
	c.startOn(c.t, free[:1], flags...)
}

func (c *cluster) addEmbedded(address, admin string) {
	c.add("broker", readyURL(admin), "broker", "--data-dir="+c.dataDir, "--embedded-kafka-addr="+address, "--admin-addr="+admin)
}

// newcomer is a storage worker that is not started with the others.
const newcomer = "storage-3"

// recounting is a worker of second versions of handlers. It is not started with the others either.
const recounting = "recount"

// startSplitCluster starts everything on one embedded broker, with storage workers and proxies.
func startSplitCluster(t *testing.T) *cluster {
	t.Helper()
	c := newSplitCluster(t)
	c.startEmbedded()
	return c
}

// newSplitCluster returns a cluster that is yet to be started.
func newSplitCluster(t *testing.T) *cluster { return &cluster{t: t, dataDir: t.TempDir(), split: true} }

// startOn starts the brokers, which were added before, and everything else on them. The flags are for processes that create
// topics, and win over the usual ones.
func (c *cluster) startOn(t *testing.T, brokers []string, flags ...string) {
	t.Helper()
	t.Cleanup(c.killAll)
	c.startAll(t, c.processes)
	c.brokers, c.log = len(c.processes), brokers
	free := FreeAddresses(t, 15)
	messages, push := free[:2], free[12]
	c.messages = messages
	flags = append([]string{"--data-dir=" + c.dataDir, "--kafka-brokers=" + strings.Join(brokers, ",")}, flags...)
	worker := func(name, handlers, admin string, more ...string) {
		c.add(name, readyURL(admin), slices.Concat([]string{"worker", "--handlers=" + handlers, "--admin-addr=" + admin}, more, flags)...)
	}
	inMessage, audit, pushed := "storage,push,users,notice,revocation,groups", "worker", []string(nil)
	switch {
	case c.split:
		inMessage = "push,notice,revocation"
	case c.apart:
		inMessage, audit, pushed = "", "audit", []string{"--push-addrs=" + push}
	}
	for i, address := range messages {
		admin := free[2+i]
		c.add(fmt.Sprintf("message-%d", i+1), readyURL(admin), slices.Concat(
			[]string{"message", "--message-addr=" + address, "--admin-addr=" + admin, "--handlers=" + inMessage}, c.deciding, flags)...)
	}
	if c.split {
		worker("storage-1", "storage,users,groups", free[9])
		worker("storage-2", "storage,users,groups", free[10])
	}
	if c.apart {
		worker("push", "push,notice,revocation", free[13], "--message-addr="+push)
		worker("storage", "storage", free[14])
	}
	for i, address := range free[4:6] {
		admin := free[6+i]
		reached := messages
		if c.split {
			reached = c.proxied(fmt.Sprintf("connect-%d", i+1), messages)
		}
		c.add(fmt.Sprintf("connect-%d", i+1), readyURL(admin), append([]string{
			"connect", "--jwt-secret=" + Secret, "--connect-addr=" + address,
			"--message-addrs=" + strings.Join(reached, ","), "--admin-addr=" + admin,
		}, pushed...)...)
		c.gateways = append(c.gateways, "ws://"+address+"/ws")
	}
	worker(audit, "audit", free[8])
	c.startAll(t, c.processes[c.brokers:])
	if c.split {
		worker(newcomer, "storage,users,groups", free[11])
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

// store returns the file of a store in SQLite.
func (c *cluster) store() string { return filepath.Join(c.dataDir, "millrace.db") }

func (c *cluster) add(name, ready string, args ...string) {
	c.processes = append(c.processes, &process{
		name: name, ready: ready, args: append(args, "--log-level=warn"), log: filepath.Join(c.dataDir, name+".out"),
	})
}

func (c *cluster) named(name string) *process {
	p := c.find(name)
	if p == nil {
		c.t.Fatalf("no process %s", name)
	}
	return p
}

// find returns the process of the name, or nil.
func (c *cluster) find(name string) *process {
	for _, p := range c.processes {
		if p.name == name {
			return p
		}
	}
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

// stopAll stops the processes that run as Ctrl-C does, gateways first and brokers last. Of several brokers the last ones may stop
// in disorder, because there is no quorum any more.
func (c *cluster) stopAll() {
	for _, role := range []string{"connect", "worker", "message"} {
		for _, p := range c.processes[c.brokers:] {
			if p.args[0] == role && p.runs() {
				p.stop(c.t)
			}
		}
	}
	if c.brokers == 1 {
		c.processes[0].stop(c.t)
	}
}

package proof

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/handlers"
	"millrace/services/client"
)

// costMessages is how many messages are sent in a round. With few of them, what a process does by itself counts for much.
var costMessages = flag.Int("costs.messages", 3000, "messages of a round of BenchmarkCosts")

const (
	// costPairs is how many pairs of users send the messages of a round.
	costPairs = 10
	// costInFlight is how many messages a pair sends before it waits for the first one.
	costInFlight = 16
)

// BenchmarkCosts measures, each as a ratio to a `millrace dev` that runs storage, push and users and nothing else, what sends cost
// with 20 rules of which none matches and with an HTTP hook that lets everything pass, and which share of the CPU each handler
// takes. For every one there is a process; all take turns, so that what slows the machine down meets all of them. The CPU is that of
// the process, from the first send until every handler has handled all of them.
func BenchmarkCosts(b *testing.B) {
	usual := []string{"storage", "push", "users"}
	base := newCosted(b, "base", usual)
	all := []*costed{
		base, newCosted(b, "rules", usual, "--rules="+writeManyRules(b)),
		newCosted(b, "hook", usual, "--hook-url="+newReviewer(b).URL, "--hook-secret="+hookSecret, "--hook-fail=closed"),
	}
	for _, name := range handlers.Names() {
		if name == "push" || !readsMessages(name) {
			continue // no gateway is ready without the one, and sends do not concern the others
		}
		if i := slices.Index(usual, name); i >= 0 {
			all = append(all, newCosted(b, name, slices.Delete(slices.Clone(usual), i, i+1)))
			continue
		}
		receiver := newReceiver(b)
		receiver.reliable = true
		all = append(all, newCosted(b, name, append(usual[:3:3], name), needsOf(b, name, receiver)...))
	}
	for _, c := range all {
		c.process.awaitReady(b)
		c.connect(b)
		c.round(b) // the first messages find nothing cached
		c.took, c.cpu = 0, 0
	}
	for b.Loop() {
		for _, c := range all {
			c.round(b)
		}
	}
	b.ReportMetric(0, "ns/op") // of all together, which says nothing
	messages := float64(b.N * *costMessages)
	b.ReportMetric(base.cpu/messages*1e6, "cpu-µs/message")
	for _, c := range all[1:3] {
		b.ReportMetric(c.took.Seconds()/base.took.Seconds(), "time-ratio/"+c.name)
		b.ReportMetric(c.cpu/base.cpu, "cpu-ratio/"+c.name)
	}
	for _, c := range all[3:] {
		more := c.cpu - base.cpu
		if slices.Contains(usual, c.name) {
			more = -more // this process is the one without it
		}
		b.ReportMetric(100*more/base.cpu, "cpu-%/"+c.name)
	}
}

// costed is a process whose cost is measured.
type costed struct {
	name     string
	process  *process
	url      string
	handlers []string // that read messages
	senders  []*client.Client
	sent     int
	took     time.Duration // until all sends were answered
	cpu      float64       // seconds
}

func newCosted(b *testing.B, name string, run []string, flags ...string) *costed {
	b.Helper()
	dir, free := b.TempDir(), FreeAddresses(b, 4)
	p := &process{
		name: name, ready: readyURL(free[0]), log: filepath.Join(dir, "log"),
		args: append([]string{
			"dev", "--data-dir=" + filepath.Join(dir, "data"), "--jwt-secret=" + Secret, "--log-level=warn", "--admin-addr=" + free[0],
			"--connect-addr=" + free[1], "--message-addr=" + free[2], "--embedded-kafka-addr=" + free[3], "--send-rate=1000000",
			"--handlers=" + strings.Join(run, ","),
		}, flags...),
	}
	p.start(b)
	b.Cleanup(func() {
		p.kill()
		if said, _ := os.ReadFile(p.log); b.Failed() {
			b.Logf("the log of %s:\n%s", name, said)
		}
	})
	reading := slices.DeleteFunc(slices.Clone(run), func(name string) bool { return !readsMessages(name) })
	return &costed{name: name, process: p, url: "ws://" + free[1] + "/ws", handlers: reading}
}

func readsMessages(handler string) bool {
	_, topic, _ := handlers.Of(handlers.Group(handler))
	return topic == events.TopicMessages
}

func (c *costed) connect(b *testing.B) {
	b.Helper()
	for i := range costPairs {
		c.senders = append(c.senders, c.dial(b, int64(2*i+1)))
		c.dial(b, int64(2*i+2))
	}
}

func (c *costed) dial(b *testing.B, user int64) *client.Client {
	b.Helper()
	conn, err := client.Dial(b.Context(), client.Config{URL: c.url, Token: Token(user)})
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	return conn
}

// round sends the messages of a round, and waits until every handler has handled them.
func (c *costed) round(b *testing.B) {
	b.Helper()
	before, begin := c.process.metric(b, "process_cpu_seconds_total"), time.Now()
	var sending errgroup.Group
	for i, sender := range c.senders {
		sending.Go(func() error { return pipeline(b.Context(), sender, client.ToUser(int64(2*i+2))) })
	}
	require.NoError(b, sending.Wait())
	c.took += time.Since(begin)
	c.sent += *costMessages / costPairs * costPairs
	for _, handler := range c.handlers { // of several that a handler is, such as webhooks, the names begin with its own
		for c.passed(b, handler) < float64(c.sent) {
			Wait(b.Context(), 200*time.Millisecond) // asking costs the process some CPU
		}
	}
	c.cpu += c.process.metric(b, "process_cpu_seconds_total") - before
}

// passed returns how many records the handler is done with, those among them that it does not want.
func (c *costed) passed(b *testing.B, handler string) (n float64) {
	b.Helper()
	for _, outcome := range []string{"handled", "skipped"} {
		n += c.process.metric(b, "millrace_handler_records_total", `outcome="`+outcome+`"`, `handler="`+handler)
	}
	return n
}

// pipeline sends one pair's messages of a round.
func pipeline(ctx context.Context, sender *client.Client, to client.Target) error {
	var waiting []*client.Sending
	for i := range *costMessages / costPairs {
		if i >= costInFlight {
			if _, err := waiting[i-costInFlight].Wait(); err != nil {
				return err
			}
		}
		waiting = append(waiting, sender.Post(ctx, client.Send{Target: to, Content: "see you at the station at ten"}))
	}
	for _, s := range waiting {
		if _, err := s.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// writeManyRules returns a file of 20 rules of which none matches, four of them regular expressions.
func writeManyRules(b *testing.B) string {
	b.Helper()
	var file strings.Builder
	file.WriteString("rules:\n")
	for i := range 20 {
		fmt.Fprintf(&file, "- {name: r%d, reject: no such thing, when: '%s'}\n", i, []string{
			`content contains "wire me money"`, "content matches `(?i)casino|lottery`", `user_type == "banned" && rate("1m") > 10`,
			`len(content) > 10000 && message_type == 1`, `from in [-1, -2, -3] && region == "xx"`,
		}[i%5])
	}
	path := filepath.Join(b.TempDir(), "rules.yaml")
	require.NoError(b, os.WriteFile(path, []byte(file.String()), 0o600))
	return path
}

package main

import (
	"context"
	"crypto/rand"
	"flag"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/infra/config"
	"millrace/services/client"
)

// playMillrace makes the test binary run as millrace itself, so that tests can start and kill real processes.
const playMillrace = "MILLRACE_TEST_PLAY"

// secret signs the tokens of all tests.
const secret = "a-secret-for-tests-of-at-least-32-bytes"

// patience is for what must happen, however slow the machine: a broker of Apache Kafka that was killed checks hundreds of
// logs before it answers.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(playMillrace) != "" {
		main()
		return
	}
	// They wait more than they work: for brokers that start, for members that join, for a pace. A -parallel given goes before.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// Sarama counts with a library that keeps one goroutine for the life of the process.
		goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// toxiproxy leaves behind what waits to write to a connection that broke.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"))
}

// dev is a dev process inside the test.
type dev struct {
	gateway *gatewayServer
	grpc    *grpcServer
	brokers brokerAddrs
	stop    func()
}

// startDev runs everything on the data directory until the test ends or stop is called.
func startDev(t *testing.T, dataDir string) *dev {
	t.Helper()
	return startDevWith(t, dataDir)
}

// brokersEnv names Kafka brokers to test against, host:port with commas between, in place of an embedded one. Tests delete
// Millrace's topics there.
const brokersEnv = "MILLRACE_TEST_KAFKA_BROKERS"

// besideOthers lets the test run beside others, unless they share the topics of given brokers.
func besideOthers(t *testing.T) {
	t.Helper()
	if os.Getenv(brokersEnv) == "" {
		t.Parallel()
	}
}

// startDevWith is startDev with parts replaced.
func startDevWith(t *testing.T, dataDir string, replaced ...fx.Option) *dev {
	t.Helper()
	return startDevAs(t, dataDir, nil, replaced...)
}

// startDevAs is startDevWith with more flags. A data directory that is new begins with an empty log, also in brokers that
// all tests share.
func startDevAs(t *testing.T, dataDir string, flags []string, replaced ...fx.Option) *dev {
	t.Helper()
	cfg := parse(t, config.Dev, append([]string{
		"--data-dir=" + dataDir, "--jwt-secret=" + secret, "--admin-addr=", "--log-level=error", "--embedded-kafka-addr=127.0.0.1:0",
		"--connect-addr=127.0.0.1:0", "--message-addr=127.0.0.1:0", "--kafka-brokers=" + os.Getenv(brokersEnv),
	}, flags...)...)
	if files, err := os.ReadDir(dataDir); err == nil && len(files) == 0 && len(cfg.KafkaBrokers) > 0 {
		deleteTopics(t, cfg.KafkaBrokers)
	}
	options, err := roleNamed(t, config.Dev).appOptions(cfg)
	require.NoError(t, err)
	d := &dev{}
	app, err := startApp(t.Context(), options, fx.Options(replaced...), fx.Populate(&d.gateway, &d.grpc, &d.brokers))
	require.NoError(t, err)
	d.stop = sync.OnceFunc(func() {
		require.NoError(t, stopApp(context.WithoutCancel(t.Context()), app))
	})
	t.Cleanup(d.stop)
	return d
}

// deleteTopics waits until the brokers have forgotten all topics of ours.
func deleteTopics(t *testing.T, brokers []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = admin.DeleteTopics(ctx, events.Topics()...)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		left, err := admin.ListTopics(ctx)
		return err == nil && !slices.ContainsFunc(events.Topics(), left.Has)
	}, patience, 10*time.Millisecond)
}

func parse(t *testing.T, role config.Role, args ...string) *config.Config {
	t.Helper()
	cfg := &config.Config{}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	cfg.Bind(role, flags)
	require.NoError(t, flags.Parse(args))
	require.NoError(t, cfg.Load(flags))
	return cfg
}

func roleNamed(t *testing.T, name config.Role) role {
	t.Helper()
	for _, r := range roles() {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("no role %s", name)
	return role{}
}

func (d *dev) url() string { return "ws://" + d.gateway.Addr() + "/ws" }

func token(user int64) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		return auth.Sign(secret, auth.Identity{User: user, Expires: time.Now().Add(time.Hour)})
	}
}

// user is a client with what it was shown.
type user struct {
	*client.Client
	id   int64
	seen chan client.Push
}

// Group is the client's, tried again while storing takes longer than the server waits for it.
func (u *user) Group(ctx context.Context, r client.Request) (group client.Group, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if create, ok := r.(client.GroupCreate); ok {
		create.ClientMsgID = rand.Text() // repeated, it is the same group
		r = create
	}
	err = insist(ctx, func() (err error) {
		group, err = u.Client.Group(ctx, r)
		return err
	})
	return group, err
}

// join connects a user, from the cursor if there is one.
func join(t *testing.T, url string, id int64, cursor client.Cursor) *user {
	t.Helper()
	u := &user{id: id, seen: make(chan client.Push, 100_000)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	u.Client, err = client.Dial(ctx, client.Config{
		URL: url, Token: token(id), Cursor: cursor,
		OnPush:      func(p client.Push) { u.seen <- p },
		OnViolation: func(what string) { t.Errorf("user %d: %s", id, what) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = u.Client.Close() }) // may be closed already
	return u
}

// sends returns when the message was accepted.
func (u *user) sends(t *testing.T, to client.Target, content string) client.Sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sent, err := u.Send(ctx, client.Send{Target: to, Content: content})
	require.NoError(t, err)
	return sent
}

// sees waits for the next push of the type, which must be the next push but for those of other types.
func (u *user) sees(t *testing.T, kind string) client.Push {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case p := <-u.seen:
			if string(p.Type) == kind {
				return p
			}
		case <-timeout:
			require.FailNow(t, "not seen", "user %d waits for %s", u.id, kind)
		}
	}
}

// reads waits for the next messages and answers their contents.
func (u *user) reads(t *testing.T, n int) []string {
	t.Helper()
	contents := make([]string, 0, n)
	for range n {
		contents = append(contents, u.sees(t, "new_message").Message.Content)
	}
	return contents
}

func numbered(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// await asks in the test's own goroutine, where the question may fail.
func await(t *testing.T, is func() bool, what string) {
	t.Helper()
	for begin := time.Now(); !is(); wait(t.Context(), 100*time.Millisecond) {
		require.Less(t, time.Since(begin), patience, what)
	}
}

package main

import (
	"context"
	"flag"
	"os"
	"slices"
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
	"millrace/infra/config"
	"millrace/services/millrace/proof"
)

// asItself makes the binary of the tests run as millrace: a process of its own, which can be killed.
const asItself = "MILLRACE_TEST_AS_ITSELF"

func TestMain(m *testing.M) {
	if os.Getenv(asItself) != "" {
		main()
		return
	}
	// The tests mostly wait: for brokers to start and for members to join. So more of them run at once than there are cores,
	// unless -parallel is set.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// Sarama counts with a library that keeps one goroutine for the life of the process.
		goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// dev is a dev process inside the test.
type dev struct {
	gateway *gatewayServer
	grpc    *grpcServer
	api     *apiServer
	brokers brokerAddrs
	stop    func()
}

// startDev runs everything on the data directory until the test ends or stop is called.
func startDev(t testing.TB, dataDir string) *dev {
	t.Helper()
	return startDevWith(t, dataDir)
}

// brokersEnv names Kafka brokers to test against, as host:port separated by commas, instead of an embedded broker. The tests
// delete Millrace's topics there.
const brokersEnv = "MILLRACE_TEST_KAFKA_BROKERS"

// besideOthers lets the test run in parallel, unless all tests share the topics of configured brokers.
func besideOthers(t *testing.T) {
	t.Helper()
	if os.Getenv(brokersEnv) == "" {
		t.Parallel()
	}
}

// startDevWith is like startDev, with parts replaced.
func startDevWith(t testing.TB, dataDir string, replaced ...fx.Option) *dev {
	t.Helper()
	return startDevAs(t, dataDir, nil, replaced...)
}

// startDevAs is like startDevWith, with more flags. With a new data directory the log is empty, also on brokers that all
// tests share.
func startDevAs(t testing.TB, dataDir string, flags []string, replaced ...fx.Option) *dev {
	t.Helper()
	cfg := parse(t, config.Dev, append([]string{
		"--data-dir=" + dataDir, "--jwt-secret=" + proof.Secret, "--admin-addr=", "--log-level=error", "--embedded-kafka-addr=127.0.0.1:0",
		"--connect-addr=127.0.0.1:0", "--message-addr=127.0.0.1:0", "--kafka-brokers=" + os.Getenv(brokersEnv),
	}, flags...)...)
	if files, err := os.ReadDir(dataDir); err == nil && len(files) == 0 && len(cfg.KafkaBrokers) > 0 {
		deleteTopics(t, cfg.KafkaBrokers)
	}
	options, err := roleNamed(t, config.Dev).appOptions(cfg)
	require.NoError(t, err)
	d := &dev{}
	app, err := startApp(t.Context(), options, fx.Options(replaced...), fx.Populate(&d.gateway, &d.grpc, &d.api, &d.brokers))
	require.NoError(t, err)
	d.stop = sync.OnceFunc(func() {
		require.NoError(t, stopApp(context.WithoutCancel(t.Context()), app))
	})
	t.Cleanup(d.stop)
	return d
}

// deleteTopics waits until the brokers have deleted all our topics.
func deleteTopics(t testing.TB, brokers []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), proof.Patience)
	defer cancel()
	_, err = admin.DeleteTopics(ctx, events.Topics()...)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		left, err := admin.ListTopics(ctx)
		return err == nil && !slices.ContainsFunc(events.Topics(), left.Has)
	}, proof.Patience, 10*time.Millisecond)
}

// parse returns the configuration of the role with the flags. The API gets a port of its own, because tests run side by side.
func parse(t testing.TB, role config.Role, args ...string) *config.Config {
	t.Helper()
	cfg := &config.Config{}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	cfg.Bind(role, flags)
	if flags.Lookup("api-addr") != nil {
		args = append([]string{"--api-addr=127.0.0.1:0"}, args...)
	}
	require.NoError(t, flags.Parse(args))
	require.NoError(t, cfg.Load(flags))
	return cfg
}

func roleNamed(t testing.TB, name config.Role) role {
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

// startInside runs a role in this process until stop is called.
func startInside(t *testing.T, name config.Role, with fx.Option, flags ...string) (stop func()) {
	t.Helper()
	cfg := parse(t, name, append([]string{"--admin-addr=", "--log-level=error"}, flags...)...)
	options, err := roleNamed(t, name).appOptions(cfg)
	require.NoError(t, err)
	app, err := startApp(t.Context(), options, with)
	require.NoError(t, err)
	return func() { require.NoError(t, stopApp(context.WithoutCancel(t.Context()), app)) }
}

package kafka

import (
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/goleak"

	"millrace/infra/broker"
	"millrace/infra/pubsub/pubsubtest"
)

// Sarama starts one goroutine per process for its metrics and never ends it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// brokersEnv names brokers to test against, as host:port separated by commas. Without it every test has an embedded broker.
const brokersEnv = "MILLRACE_TEST_KAFKA_BROKERS"

func brokers(t testing.TB) []string {
	t.Helper()
	if brokers := os.Getenv(brokersEnv); brokers != "" {
		return strings.Split(brokers, ",")
	}
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: t.TempDir(), Log: logTo(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return []string{b.Addr()}
}

func logTo(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func open(t testing.TB, c Config) *Bus {
	t.Helper()
	bus, err := NewBus(t.Context(), c, logTo(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	return bus
}

func admin(t testing.TB, brokers []string) *kadm.Client {
	t.Helper()
	client, err := newClient(Config{Brokers: brokers})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

// newTopic creates a topic that no other test uses.
func newTopic(t testing.TB, brokers []string, partitions int32) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	a := admin(t, brokers)
	_, err := a.CreateTopic(t.Context(), partitions, -1, nil, name)
	require.NoError(t, err)
	_, err = awaitTopics(t.Context(), a, name)
	require.NoError(t, err)
	return name
}

func TestBus(t *testing.T) {
	for name, epoch := range map[string]int64{"first epoch": 0, "later epoch": 3} {
		t.Run(name, func(t *testing.T) {
			pubsubtest.Run(t, func(t *testing.T) pubsubtest.Factory {
				at := brokers(t)
				topic := newTopic(t, at, 4)
				return pubsubtest.Factory{Bus: open(t, Config{Brokers: at, Epoch: epoch}), Topic: topic}
			})
		})
	}
}

package broker

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		serveAsChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, addr, dir string) *Broker {
	t.Helper()
	b, err := Start(Config{Addr: addr, DataDir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func connect(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func TestABrokerIsOneNodeOnOnePort(t *testing.T) {
	b := start(t, "127.0.0.1:0", t.TempDir())
	host, port, err := net.SplitHostPort(b.Addr())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
	require.NotEqual(t, "0", port)
	brokers, err := kadm.NewClient(connect(t, b.Addr())).ListBrokers(t.Context())
	require.NoError(t, err)
	require.Len(t, brokers, 1)
	require.Equal(t, b.Addr(), net.JoinHostPort(brokers[0].Host, port))
}

func TestTopicsAreNotCreatedByAskingForThem(t *testing.T) {
	b := start(t, "127.0.0.1:0", t.TempDir())
	client := connect(t, b.Addr(), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "nowhere", Value: []byte("x")}).FirstErr()
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
}

func TestOneBrokerPerDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kafka")
	b, err := Start(Config{Addr: "127.0.0.1:0", DataDir: dir})
	require.NoError(t, err)
	_, err = Start(Config{Addr: "127.0.0.1:0", DataDir: dir})
	require.EqualError(t, err, "another millrace uses the data directory "+dir)
	require.NoError(t, b.Close())
	start(t, "127.0.0.1:0", dir)
}

func TestAFailedStartLeavesNothingBehind(t *testing.T) {
	taken, dir := start(t, "127.0.0.1:0", t.TempDir()), t.TempDir()
	_, err := Start(Config{Addr: taken.Addr(), DataDir: dir})
	require.ErrorContains(t, err, taken.Addr())
	start(t, "127.0.0.1:0", dir)
}

func TestAddressMustBeOneThatClientsCanDial(t *testing.T) {
	for _, addr := range []string{"", "9092", ":9092", "0.0.0.0:9092", "[::]:9092"} {
		_, err := Start(Config{Addr: addr, DataDir: t.TempDir()})
		require.ErrorContains(t, err, "broker address", "%q", addr)
	}
}

func TestIdentityOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	identity := func() (cluster, topic string) {
		b, err := Start(Config{Addr: "127.0.0.1:0", DataDir: dir})
		require.NoError(t, err)
		defer func() { require.NoError(t, b.Close()) }()
		admin := kadm.NewClient(connect(t, b.Addr()))
		_, err = admin.CreateTopic(t.Context(), 1, -1, nil, "topic")
		if err != nil {
			require.ErrorIs(t, err, kerr.TopicAlreadyExists)
		}
		meta, err := admin.Metadata(t.Context())
		require.NoError(t, err)
		return meta.Cluster, meta.Topics["topic"].ID.String()
	}
	cluster, topic := identity()
	again, topicAgain := identity()
	require.Equal(t, cluster, again)
	require.Equal(t, topic, topicAgain)
	dir = t.TempDir()
	other, otherTopic := identity()
	require.NotEqual(t, cluster, other)
	require.NotEqual(t, topic, otherTopic)
}

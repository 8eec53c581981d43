package kafka

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/infra/broker"
)

func embedded(t *testing.T, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir, Log: logTo(t)})
	require.NoError(t, err)
	return b
}

func TestSeveralStartersCreateTheTopicsOnce(t *testing.T) {
	if os.Getenv(brokersEnv) != "" {
		t.Skip("would create the real topics in a broker that is not the test's own")
	}
	at := brokers(t)
	var starting errgroup.Group
	for range 4 {
		starting.Go(func() error {
			_, err := EnsureTopics(t.Context(), Config{Brokers: at, Partitions: 8}, logTo(t))
			return err
		})
	}
	require.NoError(t, starting.Wait())

	topics, err := admin(t, at).ListTopics(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, events.Topics(), topics.Names())
	for _, name := range []string{events.TopicMessages, events.TopicUsers, events.TopicGroups, events.TopicSystem} {
		require.Len(t, topics[name].Partitions, 8)
		require.Len(t, topics[events.PoisonTopic(name)].Partitions, 1)
	}

	retention := func(topic string) string {
		configs, err := admin(t, at).DescribeTopicConfigs(t.Context(), topic)
		require.NoError(t, err)
		for _, c := range configs[0].Configs {
			if c.Key == "retention.ms" {
				return c.MaybeValue()
			}
		}
		return ""
	}
	require.Equal(t, "604800000", retention(events.TopicMessages))
	require.Equal(t, "-1", retention(events.PoisonTopic(events.TopicMessages)))

	_, err = EnsureTopics(t.Context(), Config{Brokers: at, Partitions: 16}, logTo(t))
	require.ErrorContains(t, err, "has 8 partitions, configured are 16")
}

// A cluster of an embedded broker begins with few partitions. Topics that are there already keep theirs, so do those that are
// missing beside them.
func TestTopicsHaveAsManyPartitionsAsThereAre(t *testing.T) {
	b := embedded(t, t.TempDir())
	defer func() { require.NoError(t, b.Close()) }()
	at := []string{b.Addr()}
	ensured := func(configured int32) (int32, error) {
		return EnsureTopics(t.Context(), Config{Brokers: at, Partitions: configured}, logTo(t))
	}
	n, err := ensured(0)
	require.NoError(t, err)
	require.EqualValues(t, events.EmbeddedPartitions, n)

	a := admin(t, at)
	recreate := func(partitions int32, topics ...string) {
		_, err := a.DeleteTopics(t.Context(), topics...)
		require.NoError(t, err)
		_, err = a.CreateTopics(t.Context(), partitions, -1, nil, topics...)
		require.NoError(t, err)
	}
	recreate(3, events.TopicMessages, events.TopicUsers)
	_, err = a.DeleteTopics(t.Context(), events.TopicGroups, events.TopicSystem)
	require.NoError(t, err)
	n, err = ensured(0)
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	bus, err := NewBus(t.Context(), Config{Brokers: at}, logTo(t))
	require.NoError(t, err)
	require.EqualValues(t, 3, bus.Log(events.TopicSystem).Partitions())
	require.NoError(t, bus.Close())

	recreate(4, events.TopicGroups)
	_, err = ensured(0)
	require.ErrorContains(t, err, "topic group-events has 4 partitions, message-events has 3")
}

func TestOtherReplicationThanConfiguredIsLogged(t *testing.T) {
	b := embedded(t, t.TempDir())
	defer func() { require.NoError(t, b.Close()) }()
	logged := func(replication int16, minISR int) string {
		var text bytes.Buffer
		c := Config{Brokers: []string{b.Addr()}, Partitions: 2, Replication: replication, MinISR: minISR}
		_, err := EnsureTopics(t.Context(), c, slog.New(slog.NewTextHandler(&text, nil)))
		require.NoError(t, err)
		return text.String()
	}
	require.Empty(t, logged(1, 1), "as created")
	require.Empty(t, logged(0, 0), "not configured")
	require.Contains(t, logged(3, 1), "topic=message-events replicas=1 configured=3")
	require.Contains(t, logged(0, 2), "topic=message-events min_isr=1 configured=2")
}

func TestTopicIDOutlivesTheBrokerButNotTheTopic(t *testing.T) {
	dir := t.TempDir()
	ensure := func(b *broker.Broker) string {
		_, err := EnsureTopics(t.Context(), Config{Brokers: []string{b.Addr()}, Partitions: 2}, logTo(t))
		require.NoError(t, err)
		topics, err := admin(t, []string{b.Addr()}).ListTopics(t.Context(), events.TopicMessages)
		require.NoError(t, err)
		return topics[events.TopicMessages].ID.String()
	}
	b := embedded(t, dir)
	id := ensure(b)
	require.NoError(t, b.Close())

	b = embedded(t, dir)
	defer func() { require.NoError(t, b.Close()) }()
	require.Equal(t, id, ensure(b))
	a := admin(t, []string{b.Addr()})
	_, err := a.DeleteTopic(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.NotEqual(t, id, ensure(b))
}

func TestNoBrokerIsAnError(t *testing.T) {
	_, err := NewBus(t.Context(), Config{}, logTo(t))
	require.ErrorContains(t, err, "no Kafka brokers")
}

func TestTopicsWaitForABrokerThatIsNotThereYet(t *testing.T) {
	first := embedded(t, t.TempDir())
	address := first.Addr()
	require.NoError(t, first.Close())

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := EnsureTopics(expired(ctx), Config{Brokers: []string{address}}, logTo(t))
	require.Error(t, err, "the wait ends with the context")

	brief, end := context.WithTimeout(ctx, 300*time.Millisecond)
	defer end()
	_, err = NewBus(brief, Config{Brokers: []string{address}}, logTo(t))
	require.ErrorContains(t, err, "connect to Kafka at")
	require.Error(t, brief.Err(), "it waits as long as it may")

	var starting errgroup.Group
	starting.Go(func() error {
		_, err := EnsureTopics(ctx, Config{Brokers: []string{address}, Partitions: 2}, logTo(t))
		return err
	})
	starting.Go(func() error {
		bus, err := NewBus(ctx, Config{Brokers: []string{address}}, logTo(t))
		if err != nil {
			return err
		}
		return bus.Close()
	})
	later, err := broker.Start(broker.Config{Addr: address, DataDir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, later.Close()) }()
	require.NoError(t, starting.Wait())
}

func expired(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// The limit of a broker counts compressed bytes, but a record batch of a million bytes may become gigabytes where it is
// consumed.
func TestTopicsHoldWhatIsConsumedToTheBrokersLimit(t *testing.T) {
	b := embedded(t, t.TempDir())
	defer func() { require.NoError(t, b.Close()) }()
	at := []string{b.Addr()}
	_, err := EnsureTopics(t.Context(), Config{Brokers: at, Partitions: 8}, logTo(t))
	require.NoError(t, err)
	configs, err := admin(t, at).DescribeTopicConfigs(t.Context(), events.TopicMessages, events.PoisonTopic(events.TopicMessages))
	require.NoError(t, err)
	settings := map[string]string{}
	for _, topic := range configs {
		for _, c := range topic.Configs {
			settings[topic.Name+" "+c.Key] = c.MaybeValue()
		}
	}
	require.Equal(t, "uncompressed", settings[events.TopicMessages+" compression.type"])
	require.Equal(t, "1048576", settings[events.PoisonTopic(events.TopicMessages)+" max.message.bytes"])
}

package kafka

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
)

func TestEnsuredTopicIsAsAllOthersAndIsMadeAnewWhenItIsDeleted(t *testing.T) {
	t.Parallel()
	store := &epochStore{}
	bus, b := watched(t, t.TempDir(), store)
	defer func() { require.NoError(t, b.Close()) }()
	vip := events.RouteTopic("vip")
	publish := func() error {
		msg := message.NewMessage("a", []byte("a"))
		msg.Metadata.Set(pubsub.KeyHeader, "key")
		return bus.Publisher().Publish(vip, msg)
	}
	require.ErrorIs(t, publish(), pubsub.ErrNoTopic)

	require.NoError(t, bus.Ensure(t.Context(), vip, events.TopicMessages))
	require.NoError(t, bus.Ensure(t.Context(), vip), "it is there already")
	require.NoError(t, publish())
	a := admin(t, []string{b.Addr()})
	topics, err := a.ListTopics(t.Context(), vip, events.PoisonTopic(vip), events.TopicMessages)
	require.NoError(t, err)
	require.Len(t, topics[vip].Partitions, len(topics[events.TopicMessages].Partitions))
	require.True(t, topics.Has(events.PoisonTopic(vip)))
	configs, err := a.DescribeTopicConfigs(t.Context(), vip)
	require.NoError(t, err)
	settings := map[string]string{}
	for _, c := range configs[0].Configs {
		settings[c.Key] = c.MaybeValue()
	}
	require.Equal(t, "604800000", settings["retention.ms"])

	_, err = a.DeleteTopic(t.Context(), vip)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return bus.Ready() != nil }, 30*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return publish() == nil }, 30*time.Second, 10*time.Millisecond)
	end, err := bus.Log(vip).End(t.Context())
	require.NoError(t, err)
	require.Positive(t, events.EpochOf(end[0]), "no position is given twice")
}

func TestTopicWithAnotherNumberOfPartitionsIsNotEnsured(t *testing.T) {
	t.Parallel()
	bus, b := watched(t, t.TempDir(), &epochStore{})
	defer func() { require.NoError(t, b.Close()) }()
	vip := events.RouteTopic("vip")
	_, err := admin(t, []string{b.Addr()}).CreateTopic(t.Context(), 5, 1, nil, vip)
	require.NoError(t, err)
	require.ErrorContains(t, bus.Ensure(t.Context(), vip), "topic message-events.vip has 5 partitions")
}

package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/infra/pubsub"
)

// A process that was killed is a member of its group for some seconds more, in which its successor is started.
func TestGroupBeginsOnceTheMemberThatCommittedNothingHasLeft(t *testing.T) {
	addrs := brokers(t)
	topic := newTopic(t, addrs, 4)
	bus := open(t, Config{Brokers: addrs})
	const group = "begins-late"
	member, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
	require.NoError(t, err)
	defer member.Close()
	require.Eventually(t, func() bool {
		members, err := bus.Groups().List(t.Context(), func(name string) bool { return name == group })
		return err == nil && members[group] == 1
	}, 30*time.Second, 10*time.Millisecond)
	_, err = groups{bus}.beginNow(t.Context(), group, topic, pubsub.Start{})
	require.Error(t, err, "brokers refuse it")

	left := time.AfterFunc(3*topicPoll, member.Close)
	defer left.Stop()
	begun, err := bus.Groups().Begin(t.Context(), group, topic, pubsub.Start{})
	require.NoError(t, err)
	require.True(t, begun)
}

package proof

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
)

// Partitions asks the brokers how many partitions the topic of messages has.
func Partitions(t *testing.T, brokers []string) int32 {
	t.Helper()
	topics, err := adminOf(t, brokers).ListTopics(t.Context(), events.TopicMessages)
	require.NoError(t, err)
	require.NoError(t, topics.Error())
	return int32(len(topics[events.TopicMessages].Partitions))
}

// Apart returns a user whose conversation with Alice lies in another partition than that of Alice and Bob.
func Apart(t *testing.T, brokers []string) int64 {
	t.Helper()
	n := Partitions(t, brokers)
	of := func(user int64) int32 { return events.Partition(events.Direct(Alice, user), n) }
	user := int64(Carol)
	for of(user) == of(Bob) {
		user++
	}
	return user
}

func adminOf(t *testing.T, brokers []string) *kadm.Client {
	t.Helper()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	return kadm.NewClient(kafka)
}

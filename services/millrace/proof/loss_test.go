package proof

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"millrace/events"
	"millrace/services/client"
)

// The topic is deleted, and perhaps made anew, while everything runs. What is accepted from then on is pushed and stored as
// before, and nothing is poisoned.
func TestTopicMadeAnewWhileRunningLosesNothingThatIsAccepted(t *testing.T) {
	t.Parallel()
	loseTopic(t, startSplitCluster(t), false)
}

func TestKafkaTopicMadeAnewWhileRunningLosesNothingThatIsAccepted(t *testing.T) {
	loseTopic(t, startSplitOnKafka(t), true)
}

// loseTopic deletes the topic twice. The caller decides who makes it anew the first time; the second time the processes do.
func loseTopic(t *testing.T, c *cluster, anew bool) {
	a, b := Join(t, c.gateways[0], Alice+300, nil), Join(t, c.gateways[1], Bob+300, nil)
	conversation, to := events.Direct(a.id, b.id), client.ToUser(b.id)
	for _, content := range Numbered(0, 5) {
		a.Sends(t, to, content)
	}
	require.Equal(t, Numbered(0, 5), b.Reads(t, 5))
	require.Equal(t, Numbered(0, 5), a.Stored(t, conversation, 5))
	away := b.Cursor()

	admin, partitions := adminOf(t, c.log), Partitions(t, c.log)
	for lost := range 2 {
		_, err := admin.DeleteTopic(t.Context(), events.TopicMessages)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			if !anew || lost == 1 {
				return true
			}
			_, err := admin.CreateTopic(t.Context(), partitions, -1, nil, events.TopicMessages)
			return err == nil || errors.Is(err, kerr.TopicAlreadyExists)
		}, Patience, time.Millisecond)
		first := 5 + 10*lost
		for _, content := range Numbered(first, first+10) {
			a.Sends(t, to, content)
		}
		require.Equal(t, Numbered(first, first+10), b.Reads(t, 10))
		require.Equal(t, Numbered(0, first+10), a.Stored(t, conversation, first+10))
		message := c.named("message-1")
		message.awaitReady(t)
		require.Positive(t, message.metric(t, "millrace_log_incident_timestamp_seconds", `kind="topic_anew"`))
	}
	again := Join(t, c.gateways[0], b.id, away)
	require.Equal(t, Numbered(5, 25), again.Reads(t, 20))
	require.Zero(t, Poisoned(t, c.log))
	c.stopAll()
}

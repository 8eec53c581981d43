package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/pubsub"
)

// transactional returns a foreign producer that sends all its records in transactions.
func transactional(t *testing.T, brokers []string, id string) *kgo.Client {
	t.Helper()
	return foreign(t, brokers, kgo.TransactionalID(id), kgo.ProducerBatchCompression(kgo.NoCompression()))
}

// begin opens a transaction and sends the records to partition 0.
func begin(t *testing.T, c *kgo.Client, topic string, values ...string) {
	t.Helper()
	require.NoError(t, c.BeginTransaction())
	for _, value := range values { // each in a record batch of its own
		require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr())
	}
}

// end ends the transaction and returns once its markers are written, which Apache Kafka does only after it has responded.
func end(t *testing.T, c *kgo.Client, how kgo.TransactionEndTry) {
	t.Helper()
	require.NoError(t, c.EndTransaction(t.Context(), how))
	id, ok := c.OptValue(kgo.TransactionalID).(string)
	require.True(t, ok)
	require.Eventually(t, func() bool {
		described, err := kadm.NewClient(c).DescribeTransactions(t.Context(), id)
		state := described[id].State
		return err == nil && (state == "Empty" || strings.HasPrefix(state, "Complete"))
	}, 30*time.Second, 5*time.Millisecond)
}

// both subscribes one group that gets single records and one that gets bundles.
func both(t *testing.T, bus *Bus, topic string) []<-chan *message.Message {
	t.Helper()
	single := bundles(t, bus, "single", topic, 0)
	bundled := bundles(t, bus, "bundled", topic, 10)
	return []<-chan *message.Message{single, bundled}
}

// take acknowledges the next n records and returns their payloads.
func take(t *testing.T, bus *Bus, in <-chan *message.Message, n int) []string {
	t.Helper()
	var got []string
	for len(got) < n {
		msg := next(t, in)
		got = append(got, values(received(t, bus, msg))...)
		msg.Ack()
	}
	return got
}

func values(records []pubsub.RawRecord) []string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Value))
	}
	return all
}

func TestRecordsOfAbortedTransactionsAreNeverSeenAndThoseOfOpenOnesOnceCommitted(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	groups := both(t, bus, topic)
	one, two := transactional(t, at, topic+"-1"), transactional(t, at, topic+"-2")

	begin(t, one, topic, "aborted 1", "aborted 2")
	end(t, one, kgo.TryAbort)
	begin(t, one, topic, "open") // offset 3
	require.NoError(t, bus.Publisher().Publish(topic, message.NewMessage("", []byte("behind the open one"))))
	begin(t, two, topic, "aborted within")
	end(t, two, kgo.TryAbort) // offset 6

	everything := events.Range{Through: 100}
	records, err := readAll(t, bus, topic, everything)
	require.NoError(t, err)
	require.Empty(t, records)
	bounds, err := bus.Log(topic).Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, pubsub.Bounds{Stable: 3, Written: 7}, bounds[0])

	end(t, one, kgo.TryCommit)
	begin(t, two, topic, "aborted at the end")
	end(t, two, kgo.TryAbort)
	want := []string{"open", "behind the open one"}
	records, err = readAll(t, bus, topic, everything)
	require.NoError(t, err)
	require.Equal(t, want, values(records))
	for _, in := range groups {
		require.Equal(t, want, take(t, bus, in, 2))
	}
	require.NoError(t, bus.Publisher().Publish(topic, message.NewMessage("", []byte("the next"))))
	for _, in := range groups {
		require.Equal(t, []string{"the next"}, take(t, bus, in, 1))
	}
}

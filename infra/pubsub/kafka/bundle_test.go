package kafka

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
)

// bundles subscribes for bundles of at most size records.
func bundles(t *testing.T, bus *Bus, group, topic string, size int) <-chan *message.Message {
	t.Helper()
	sub, err := bus.Subscriber(group, pubsub.SubscriberConfig{Bundle: size})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) })
	in, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return in
}

func next(t *testing.T, in <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg := <-in:
		require.NotNil(t, msg)
		return msg
	case <-time.After(30 * time.Second):
		require.FailNow(t, "no message came")
		return nil
	}
}

// received returns the records that a message stands for, of a subscriber with or without bundles.
func received(t *testing.T, bus *Bus, msg *message.Message) []pubsub.RawRecord {
	t.Helper()
	if bundle := pubsub.BundleOf(msg); bundle != nil {
		return bundle.Records
	}
	pos, err := bus.Position(msg)
	assert.NoError(t, err)
	return []pubsub.RawRecord{{Position: pos, Value: msg.Payload}}
}

func TestBundleIsWhatHasComeWhileTheOneBeforeWasHandled(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	in := bundles(t, bus, "group", topic, 10)
	require.NoError(t, bus.Publisher().Publish(topic, numbered(0, 1)...))
	first := next(t, in)
	require.Equal(t, []string{"0"}, values(pubsub.BundleOf(first).Records))

	require.NoError(t, bus.Publisher().Publish(topic, numbered(1, 26)...))
	first.Ack()
	var all []pubsub.RawRecord
	for len(all) < 25 {
		msg := next(t, in)
		records := pubsub.BundleOf(msg).Records
		require.LessOrEqual(t, len(records), 10)
		for _, r := range records {
			require.Equal(t, events.Position{Seq: int64(len(all)) + 2}, r.Position)
			require.Equal(t, "key", string(r.Key))
			all = append(all, r)
		}
		msg.Ack()
	}
	var sent []string
	for _, m := range numbered(1, 26) {
		sent = append(sent, string(m.Payload))
	}
	require.Equal(t, sent, values(all))
}

// fedClaim is a claim whose records come from the test.
type fedClaim struct {
	sarama.ConsumerGroupClaim
	records chan *sarama.ConsumerMessage
}

func (c fedClaim) Topic() string { return "topic" }

func (c fedClaim) Messages() <-chan *sarama.ConsumerMessage { return c.records }

func TestBundleWaitsForTheRestOfItsFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const gather = 20 * time.Millisecond
		claim := fedClaim{records: make(chan *sarama.ConsumerMessage)}
		a := newAssignment(nil, nil, nil)
		b := newBundler(claim, a, pubsub.SubscriberConfig{Bundle: 4, Gather: gather})
		go b.run(a.over)
		begin := time.Now()
		type taken struct {
			records int
			at      time.Duration
		}
		var got []taken
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range b.Messages() {
				a.mu.Lock()
				got = append(got, taken{len(a.bundles[0]), time.Since(begin)})
				a.bundles = a.bundles[1:]
				a.mu.Unlock()
			}
		}()
		for i := range 9 { // four are as many as a bundle may have
			claim.records <- &sarama.ConsumerMessage{Offset: int64(i)}
		}
		time.Sleep(gather)
		claim.records <- &sarama.ConsumerMessage{Offset: 9}
		close(claim.records)
		<-done
		require.Equal(t, []taken{{4, 0}, {4, 0}, {1, gather / fetchSpread}, {1, gather}}, got)
	})
}

func TestGroupThatGathersLetsTheBrokersWait(t *testing.T) {
	gathering := consumerConfig(Config{}.withDefaults(), 20*time.Millisecond)
	require.Equal(t, 20*time.Millisecond, gathering.Consumer.MaxWaitTime)
	require.EqualValues(t, fetchEnough, gathering.Consumer.Fetch.Min)
	require.EqualValues(t, 1, consumerConfig(Config{}.withDefaults(), 0).Consumer.Fetch.Min, "a record comes at once")
	require.NoError(t, gathering.Validate())
}

func TestMessageIsMadeAsWatermillsDefaultDoes(t *testing.T) {
	r := &sarama.ConsumerMessage{Value: []byte("value"), Headers: []*sarama.RecordHeader{
		{Key: []byte(kafka.UUIDHeaderKey), Value: []byte("id")},
		{Key: []byte("a"), Value: []byte("1")},
		{Key: []byte("a"), Value: []byte("2")},
		{Key: nil, Value: []byte{0xff}},
		{Key: []byte("empty")},
	}}
	want, err := kafka.DefaultMarshaler{}.Unmarshal(r)
	require.NoError(t, err)
	got := messageOf(r)
	require.Equal(t, want.UUID, got.UUID)
	require.Equal(t, want.Payload, got.Payload)
	require.Equal(t, want.Metadata, got.Metadata)
	r.Key = []byte("key")
	r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(pubsub.KeyHeader), Value: []byte("forged")})
	require.Equal(t, "key", messageOf(r).Metadata.Get(pubsub.KeyHeader))
}

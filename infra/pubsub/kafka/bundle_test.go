package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
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

func payloads(records []*message.Message) []string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Payload))
	}
	return all
}

func TestBundleIsWhatHasComeWhileTheOneBeforeWasHandled(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	in := bundles(t, bus, "group", topic, 10)
	require.NoError(t, bus.Publisher().Publish(topic, numbered(0, 1)...))
	first := next(t, in)
	require.Equal(t, []string{"0"}, payloads(bus.Records(first)))

	require.NoError(t, bus.Publisher().Publish(topic, numbered(1, 26)...))
	acknowledge(bus, first)
	var all []*message.Message
	for len(all) < 25 {
		msg := next(t, in)
		records := bus.Records(msg)
		require.LessOrEqual(t, len(records), 10)
		for _, r := range records {
			pos, err := bus.Position(r)
			require.NoError(t, err)
			require.Equal(t, events.Position{Seq: int64(len(all)) + 2}, pos)
			require.Equal(t, "key", r.Metadata.Get(pubsub.KeyHeader))
			all = append(all, r)
		}
		acknowledge(bus, msg)
	}
	require.Equal(t, payloads(numbered(1, 26)), payloads(all))
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

func acknowledge(bus *Bus, msg *message.Message) {
	for _, r := range bus.Records(msg) {
		r.Ack()
	}
	msg.Ack()
}

package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/infra/pubsub"
)

// tapped records the handler that watermill-kafka gives to Sarama, and gives Sarama one that does nothing.
type tapped struct {
	*assignments
	handler chan sarama.ConsumerGroupHandler
}

func (t tapped) WrapConsumerGroupHandler(h sarama.ConsumerGroupHandler) sarama.ConsumerGroupHandler {
	t.handler <- h
	return idle{h}
}

type idle struct{ sarama.ConsumerGroupHandler }

func (idle) ConsumeClaim(sess sarama.ConsumerGroupSession, _ sarama.ConsumerGroupClaim) error {
	<-sess.Context().Done()
	return nil
}

// fakeSession records what is marked.
type fakeSession struct {
	sarama.ConsumerGroupSession
	ctx    context.Context
	marked chan *sarama.ConsumerMessage
}

func (s *fakeSession) Context() context.Context { return s.ctx }

func (s *fakeSession) MarkMessage(m *sarama.ConsumerMessage, _ string) { s.marked <- m }

type fakeClaim struct {
	sarama.ConsumerGroupClaim
	messages chan *sarama.ConsumerMessage
}

func (c fakeClaim) Partition() int32                         { return 7 }
func (c fakeClaim) InitialOffset() int64                     { return 0 }
func (c fakeClaim) Messages() <-chan *sarama.ConsumerMessage { return c.messages }

// The package comment lists what assignments and bundles depend on; this test holds it against watermill-kafka.
func TestWatermillsHandlerDoesWhatAssignmentsAndBundlesDependOn(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	tap := tapped{newAssignments(nil, "group", pubsub.SubscriberConfig{}, logTo(t)), make(chan sarama.ConsumerGroupHandler, 1)}
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: at, Unmarshaler: unmarshaler{}, OverwriteSaramaConfig: consumerConfig(Config{}.withDefaults(), 0),
		ConsumerGroup: "group", NackResendSleep: time.Millisecond, Tracer: tap,
	}, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, subscriber.Close()) })
	out, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	handler := <-tap.handler

	ctx, endSession := context.WithCancel(t.Context())
	sess := &fakeSession{ctx: ctx, marked: make(chan *sarama.ConsumerMessage, 1)}
	assignment := fakeClaim{messages: make(chan *sarama.ConsumerMessage)}
	over := make(chan error, 1)
	go func() { over <- handler.ConsumeClaim(sess, assignment) }()
	give := func(offset int64) (*sarama.ConsumerMessage, *message.Message) {
		t.Helper()
		sent := &sarama.ConsumerMessage{Topic: topic, Partition: 7, Offset: offset, Value: []byte("x")}
		assignment.messages <- sent
		got := next(t, out)
		partition, ok := kafka.MessagePartitionFromCtx(got.Context())
		require.True(t, ok)
		require.Equal(t, int32(7), partition)
		position, ok := kafka.MessagePartitionOffsetFromCtx(got.Context())
		require.True(t, ok)
		require.Equal(t, offset, position)
		return sent, got
	}
	sent, got := give(5)
	for range 3 {
		got.Nack()
		again := next(t, out)
		require.Equal(t, got.Payload, again.Payload)
		offset, ok := kafka.MessagePartitionOffsetFromCtx(again.Context())
		require.True(t, ok)
		require.Equal(t, int64(5), offset, "none before the one that was refused")
		require.Empty(t, sess.marked)
		select {
		case assignment.messages <- sent:
			require.FailNow(t, "a message was taken before the one in flight was marked")
		default:
		}
		got = again
	}
	got.Ack()
	require.Same(t, sent, <-sess.marked)

	_, got = give(9)
	endSession()
	got.Ack()
	require.NoError(t, <-over)
	require.Empty(t, sess.marked, "the partition may be another's by now")
}

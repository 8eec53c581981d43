package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/infra/broker"
	"millrace/infra/pubsub"
)

func subscribe(
	ctx context.Context, t *testing.T, bus *Bus, group, topic string,
) (message.Subscriber, <-chan *message.Message) {
	t.Helper()
	sub, err := bus.Subscriber(group, pubsub.SubscriberConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) })
	in, err := sub.Subscribe(ctx, topic)
	require.NoError(t, err)
	return sub, in
}

// consumed acknowledges messages until one has the payload last, and returns all payloads.
func consumed(t *testing.T, in <-chan *message.Message, last string) []string {
	t.Helper()
	giveUp := time.After(30 * time.Second)
	var payloads []string
	for {
		select {
		case msg := <-in:
			payloads = append(payloads, string(msg.Payload))
			msg.Ack()
			if string(msg.Payload) == last {
				return payloads
			}
		case <-giveUp:
			require.FailNow(t, "gave up waiting", "for %s, got %v", last, payloads)
		}
	}
}

func TestASubscriberGoesOnAfterARestartOfTheBroker(t *testing.T) {
	dir := t.TempDir()
	b := embedded(t, dir)
	addr := b.Addr()
	_, err := admin(t, []string{addr}).CreateTopic(t.Context(), 1, -1, nil, "topic")
	require.NoError(t, err)
	bus := open(t, Config{Brokers: []string{addr}, PublishTimeout: 20 * time.Second})
	sub, in := subscribe(t.Context(), t, bus, "group", "topic")
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 3)...))
	require.Equal(t, []string{"0", "1", "2"}, consumed(t, in, "2"))
	require.Eventually(t, func() bool {
		committed, err := bus.Log("topic").Committed(t.Context(), "group")
		return err == nil && committed[0] == 3
	}, 30*time.Second, 10*time.Millisecond)

	require.NoError(t, b.Close())
	b, err = broker.Start(broker.Config{Addr: addr, DataDir: dir, Log: logTo(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	require.NoError(t, bus.Publisher().Publish("topic", numbered(3, 6)...))
	require.Equal(t, []string{"3", "4", "5"}, consumed(t, in, "5"))
	require.NoError(t, sub.Close())
}

func TestASubscriberWaitsForABrokerThatIsAway(t *testing.T) {
	dir := t.TempDir()
	b := embedded(t, dir)
	addr := b.Addr()
	_, err := admin(t, []string{addr}).CreateTopic(t.Context(), 1, -1, nil, "topic")
	require.NoError(t, err)
	bus := open(t, Config{Brokers: []string{addr}})
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 3)...))
	require.NoError(t, b.Close())

	_, in := subscribe(t.Context(), t, bus, "group", "topic")
	unread, none := subscribe(t.Context(), t, bus, "other", "topic")
	require.NoError(t, unread.Close(), "nobody has to wait for it")
	_, open := <-none
	require.False(t, open)
	b, err = broker.Start(broker.Config{Addr: addr, DataDir: dir, Log: logTo(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	require.Equal(t, []string{"0", "1", "2"}, consumed(t, in, "2"))
}

func TestAStaticMemberComesBackToItsPartitions(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 4)
	bus := open(t, Config{Brokers: at, InstanceID: "millrace-0"})
	for round := range 2 {
		sub, in := subscribe(t.Context(), t, bus, "static", topic)
		require.NoError(t, bus.Publisher().Publish(topic, numbered(3*round, 3*round+3)...))
		last := numbered(3*round+2, 3*round+3)[0]
		require.Len(t, consumed(t, in, string(last.Payload)), 3)
		require.NoError(t, sub.Close())
	}
}

func TestTheEndOfTheContextWaitsForWhatIsBeingHandled(t *testing.T) {
	_, bus := faulty(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sub, in := subscribe(ctx, t, bus, "group", "topic")
	require.NoError(t, bus.Publisher().Publish("topic", numbered(0, 3)...))
	msg := <-in
	cancel()
	require.NoError(t, msg.Context().Err(), "a message being handled is cancelled with the subscription")
	msg.Ack()
	_, more := <-in
	require.False(t, more, "a message came after the end")
	require.NoError(t, sub.Close())
	committed, err := bus.Log("topic").Committed(t.Context(), "group")
	require.NoError(t, err)
	require.Equal(t, int64(1), committed[0])
}

func TestTheKeyOfAForeignRecordIsItsKeyWhateverItsHeadersSay(t *testing.T) {
	_, bus := faulty(t, Config{})
	forged := []kgo.RecordHeader{{Key: pubsub.KeyHeader, Value: []byte("forged")}}
	require.NoError(t, foreign(t, bus.config.Brokers).ProduceSync(t.Context(),
		&kgo.Record{Topic: "topic", Key: []byte("real"), Value: []byte("0"), Headers: forged},
		&kgo.Record{Topic: "topic", Value: []byte("1"), Headers: forged},
	).FirstErr())
	_, in := subscribe(t.Context(), t, bus, "group", "topic")
	keyed := <-in
	require.Equal(t, "real", keyed.Metadata.Get(pubsub.KeyHeader))
	keyed.Ack()
	keyless := <-in
	require.NotContains(t, keyless.Metadata, pubsub.KeyHeader)
	keyless.Ack()
}

func TestASubscriberClosesThoughARecordTakenAwayIsNeverAnswered(t *testing.T) {
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	first, held := subscribe(t.Context(), t, bus, "group", topic)
	require.NoError(t, bus.Publisher().Publish(topic, numbered(0, 1)...))
	msg := <-held
	second, in := subscribe(t.Context(), t, bus, "group", topic)
	require.NoError(t, first.Close())
	_, more := <-held
	require.False(t, more, "a message came after the end")
	require.Equal(t, []string{"0"}, consumed(t, in, "0"), "what was never acknowledged comes again")
	require.True(t, msg.Ack(), "an answer that comes too late means nothing")
	require.NoError(t, second.Close())
}

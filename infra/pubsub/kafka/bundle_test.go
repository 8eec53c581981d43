package kafka

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
)

// bundles subscribes for bundles of at most size records.
func bundles(t *testing.T, bus *Bus, group, topic string, size int) (message.Subscriber, <-chan *message.Message) {
	t.Helper()
	sub, err := bus.Subscriber(group, pubsub.Claims{Bundle: size})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) })
	in, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return sub, in
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
	_, in := bundles(t, bus, "group", topic, 10)
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

func TestOfABundleGivenBackOnlyTheRestComesAgain(t *testing.T) {
	t.Parallel()
	at := brokers(t)
	topic := newTopic(t, at, 1)
	bus := open(t, Config{Brokers: at})
	require.NoError(t, bus.Publisher().Publish(topic, numbered(0, 8)...))
	sub, in := bundles(t, bus, "group", topic, 100)
	// The first bundle may have fewer records than were published: the last of what has come is taken.
	msg := next(t, in)
	for len(bus.Records(msg)) < 5 {
		acknowledge(bus, msg)
		require.NoError(t, bus.Publisher().Publish(topic, numbered(8, 16)...))
		msg = next(t, in)
	}
	records := bus.Records(msg)
	for _, r := range records[:3] {
		r.Ack()
	}
	msg.Nack()
	again := next(t, in)
	require.Equal(t, payloads(records[3:]), payloads(bus.Records(again)))
	require.Eventually(t, func() bool {
		committed, err := bus.Log(topic).Committed(t.Context(), "group")
		pos, _ := bus.Position(records[2])
		return err == nil && committed[0] == pos.Seq
	}, 30*time.Second, 10*time.Millisecond, "what was acknowledged is committed")

	// Also across a restart in the middle of a bundle.
	left := bus.Records(again)
	left[0].Ack()
	closed := make(chan error, 1)
	go func() { closed <- sub.Close() }()
	select {
	case <-again.Context().Done():
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the bundle is not told that it is being taken away")
	}
	again.Nack()
	require.NoError(t, <-closed)
	_, in = bundles(t, bus, "group", topic, 100)
	require.Equal(t, string(left[1].Payload), string(bus.Records(next(t, in))[0].Payload))
}

func acknowledge(bus *Bus, msg *message.Message) {
	for _, r := range bus.Records(msg) {
		r.Ack()
	}
	msg.Ack()
}

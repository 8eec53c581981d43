package pubsubtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
)

// patience is how long a test waits for what must come. It decides nothing but when to give up.
const patience = 30 * time.Second

// reader is a member of a group.
type reader struct {
	t   *testing.T
	bus pubsub.Bus
	sub message.Subscriber
	in  <-chan *message.Message
}

func (f Factory) join(t *testing.T, group string, config pubsub.SubscriberConfig) *reader {
	t.Helper()
	sub, err := f.Bus.Subscriber(group, config)
	require.NoError(t, err)
	in, err := sub.Subscribe(context.WithoutCancel(t.Context()), f.Topic)
	require.NoError(t, err)
	r := &reader{t: t, bus: f.Bus, sub: sub, in: in}
	t.Cleanup(r.close)
	return r
}

func (r *reader) close() { require.NoError(r.t, r.sub.Close()) }

// next returns the next message without acknowledging it.
func (r *reader) next() *message.Message {
	r.t.Helper()
	select {
	case msg, ok := <-r.in:
		require.True(r.t, ok, "the subscription has ended")
		return msg
	case <-time.After(patience):
		require.FailNow(r.t, "no message came")
		return nil
	}
}

// take acknowledges the next n messages and returns them in the order in which they came.
func (r *reader) take(n int) []*message.Message {
	r.t.Helper()
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = r.next()
		msgs[i].Ack()
	}
	return msgs
}

func (r *reader) position(msg *message.Message) events.Position {
	r.t.Helper()
	pos, err := r.bus.Position(msg)
	require.NoError(r.t, err)
	return pos
}

// keyed returns a message with the key whose payload is "key/number".
func keyed(key string, number int) *message.Message {
	msg := message.NewMessage(watermill.NewUUID(), fmt.Appendf(nil, "%s/%d", key, number))
	msg.Metadata.Set(pubsub.KeyHeader, key)
	return msg
}

func (f Factory) publish(t *testing.T, msgs ...*message.Message) {
	t.Helper()
	require.NoError(t, f.Bus.Publisher().Publish(f.Topic, msgs...))
}

// series returns n messages of one key.
func series(key string, n int) []*message.Message {
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = keyed(key, i)
	}
	return msgs
}

// keyIn returns a key whose partition is the one passed.
func (f Factory) keyIn(partition int32) string {
	for i := 0; ; i++ {
		key := fmt.Sprintf("key-%d", i)
		if events.Partition(key, f.Bus.Log(f.Topic).Partitions()) == partition {
			return key
		}
	}
}

func (f Factory) end(t *testing.T) map[int32]int64 {
	t.Helper()
	end, err := f.Bus.Log(f.Topic).End(t.Context())
	require.NoError(t, err)
	return end
}

func (f Factory) committed(t *testing.T, group string) map[int32]int64 {
	t.Helper()
	committed, err := f.Bus.Log(f.Topic).Committed(t.Context(), group)
	require.NoError(t, err)
	return committed
}

// read returns what the log has in the ranges, or everything.
func (f Factory) read(t *testing.T, ranges ...events.Range) []pubsub.RawRecord {
	t.Helper()
	if len(ranges) == 0 {
		for p, end := range f.end(t) {
			ranges = append(ranges, events.Range{Partition: p, After: f.start[p], Through: end})
		}
	}
	var records []pubsub.RawRecord
	require.NoError(t, f.Bus.Log(f.Topic).Read(t.Context(), ranges, func(r pubsub.RawRecord) error {
		records = append(records, r)
		return nil
	}))
	return records
}

func payloads(msgs []*message.Message) []string {
	var all []string
	for _, msg := range msgs {
		all = append(all, string(msg.Payload))
	}
	return all
}

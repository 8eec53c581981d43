package router_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
)

// Sarama starts one goroutine per process for its metrics and never ends it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const patience = 30 * time.Second

// quick returns options with short pauses between retries.
func quick() router.Options { return router.Options{RetryPause: time.Millisecond} }

// handler returns a handler of message-events that calls work.
func handler(work func(context.Context, events.Record) error) events.Handler {
	return events.Handler{Name: "test", Topic: events.TopicMessages, Group: "test-group", Handle: work}
}

// run starts a router over the handlers. The test stops it with the function returned, or at its end at the latest.
func run(t *testing.T, bus pubsub.Bus, opts router.Options, handlers ...events.Handler) (stop func()) {
	t.Helper()
	r, err := router.New(bus, handlers, opts, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	select {
	case <-r.Running():
	case err := <-ended:
		require.NoError(t, err)
	}
	stop = sync.OnceFunc(func() {
		require.NoError(t, r.Close())
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	return stop
}

// newMessage returns a message of user 1.
func newMessage(to int64, clientMsgID string) *events.Event {
	const from = 1
	conversation := events.Direct(from, to)
	return &events.Event{
		Type: events.NewMessage, Timestamp: 1642678800,
		Message: &events.Message{
			MessageID: events.MessageID(from, conversation, clientMsgID), ClientMsgID: clientMsgID, Conversation: conversation,
			From: from, To: to, Content: clientMsgID, MessageType: 1, Timestamp: 1642678800,
		},
	}
}

// publish puts the value on message-events under the key, with headers as pairs of names and values.
func publish(t *testing.T, bus pubsub.Bus, key, value string, headers ...string) events.Position {
	t.Helper()
	msg := message.NewMessage("", []byte(value))
	msg.Metadata.Set(pubsub.KeyHeader, key)
	for i := 0; i+1 < len(headers); i += 2 {
		msg.Metadata.Set(headers[i], headers[i+1])
	}
	require.NoError(t, bus.Publisher().Publish(events.TopicMessages, msg))
	pos, err := bus.Position(msg)
	require.NoError(t, err)
	return pos
}

func publishEvent(t *testing.T, bus pubsub.Bus, e *events.Event, headers ...string) events.Position {
	t.Helper()
	value, err := events.Encode(e)
	require.NoError(t, err)
	return publish(t, bus, e.ConversationKey(), string(value), headers...)
}

// journal notes what happened, so that a test can wait for it.
type journal[T any] struct {
	mu      sync.Mutex
	entries []T
}

func (j *journal[T]) add(e T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
}

func (j *journal[T]) all() []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]T(nil), j.entries...)
}

func (j *journal[T]) wait(t *testing.T, n int) []T {
	t.Helper()
	require.Eventually(t, func() bool { return len(j.all()) >= n }, patience, time.Millisecond)
	return j.all()
}

// poisonQueue returns the first n entries of message-events' poison queue, read by a consumer.
func poisonQueue(t *testing.T, bus pubsub.Bus, n int) []*message.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	subscriber, err := bus.Subscriber("poison-reader", pubsub.SubscriberConfig{})
	require.NoError(t, err)
	in, err := subscriber.Subscribe(ctx, events.PoisonTopic(events.TopicMessages))
	require.NoError(t, err)
	var out []*message.Message
	for len(out) < n {
		select {
		case msg := <-in:
			require.NotNil(t, msg, "only %d records are in the poison queue", len(out))
			out = append(out, msg)
			msg.Ack()
		case <-ctx.Done():
			require.Fail(t, "poison queue", "only %d records", len(out))
		}
	}
	require.NoError(t, subscriber.Close())
	return out
}

func requireNothingPoisoned(t *testing.T, bus pubsub.Bus) {
	t.Helper()
	end, err := bus.Log(events.PoisonTopic(events.TopicMessages)).End(context.Background())
	require.NoError(t, err)
	for partition, seq := range end {
		require.Zero(t, seq, "poison queue, partition %d", partition)
	}
}

// requireAllCommitted waits until the group has acknowledged everything.
func requireAllCommitted(t *testing.T, bus pubsub.Bus) {
	t.Helper()
	log := bus.Log(events.TopicMessages)
	end, err := log.End(context.Background())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		committed, err := log.Committed(context.Background(), "test-group")
		return err == nil && maps.Equal(end, committed)
	}, patience, time.Millisecond)
}

// logged collects the lines that a logger writes.
type logged struct{ journal[map[string]any] }

func (l *logged) Write(line []byte) (int, error) {
	entry := make(map[string]any)
	if err := json.NewDecoder(strings.NewReader(string(line))).Decode(&entry); err != nil {
		return 0, err
	}
	l.add(entry)
	return len(line), nil
}

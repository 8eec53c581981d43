package kafka

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/infra/broker"
	"millrace/infra/pubsub"
)

// benchPartitions is the default number of partitions of message-events.
const benchPartitions = 64

// BenchmarkBus measures the bus on an embedded broker, and on the brokers that the environment names, if any.
func BenchmarkBus(b *testing.B) {
	b.Run("broker=embedded", func(b *testing.B) {
		broker, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: b.TempDir(), Log: logTo(b)})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, broker.Close()) })
		benchmark(b, []string{broker.Addr()})
	})
	if os.Getenv(brokersEnv) != "" {
		b.Run("broker=given", func(b *testing.B) { benchmark(b, brokers(b)) })
	}
}

// warmUp is how many messages Java needs until it has compiled what is used often.
const warmUp = 100_000

func benchmark(b *testing.B, brokers []string) {
	topic := newTopic(b, brokers, benchPartitions)
	publishMany(b, open(b, Config{Brokers: brokers}), newTopic(b, brokers, benchPartitions), warmUp, 64)
	b.Run("one at a time", func(b *testing.B) { publishOneByOne(b, open(b, Config{Brokers: brokers}), topic) })
	for _, publishers := range []int{64, 512} {
		b.Run(fmt.Sprintf("publishers=%d", publishers), func(b *testing.B) {
			publishAll(b, open(b, Config{Brokers: brokers}), newTopic(b, brokers, benchPartitions), publishers)
		})
	}
}

// publishOneByOne measures how long a message takes into the log and to its handler when nothing else is going on.
func publishOneByOne(b *testing.B, bus *Bus, topic string) {
	handled := make(chan time.Time, 1)
	stop := handle(b, bus, topic, func() { handled <- time.Now() })
	defer stop()
	publish := func(i int) (begin, accepted time.Time) {
		begin = time.Now()
		require.NoError(b, bus.Publisher().Publish(topic, benchMessage(i)))
		return begin, time.Now()
	}
	publish(0) // what happens only once, such as joining the group
	<-handled
	var toLog, toHandler []time.Duration
	for i := 0; b.Loop(); i++ {
		begin, accepted := publish(i)
		toLog = append(toLog, accepted.Sub(begin))
		toHandler = append(toHandler, (<-handled).Sub(begin))
	}
	for name, took := range map[string][]time.Duration{"publish": toLog, "handle": toHandler} {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), name+"-p99-µs")
	}
}

// publishAll measures how many messages a second get into the log, and how many are handled until all are.
func publishAll(b *testing.B, bus *Bus, topic string, publishers int) {
	var handled atomic.Int64
	done := make(chan struct{})
	stop := handle(b, bus, topic, func() {
		if handled.Add(1) == int64(b.N)+1 {
			close(done)
		}
	})
	defer stop()
	require.NoError(b, bus.Publisher().Publish(topic, benchMessage(0)))
	require.Eventually(b, func() bool { return handled.Load() == 1 }, 30*time.Second, time.Millisecond)
	b.ResetTimer()
	begin := time.Now()
	publishMany(b, bus, topic, b.N, publishers)
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "published/s")
	<-done
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "handled/s")
}

func publishMany(b *testing.B, bus *Bus, topic string, n, publishers int) {
	b.Helper()
	var next atomic.Int64
	var publishing sync.WaitGroup
	for range publishers {
		publishing.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := bus.Publisher().Publish(topic, benchMessage(int(i))); err != nil {
					b.Error(err)
				}
			}
		})
	}
	publishing.Wait()
}

// handle starts a member of a consumer group that acknowledges everything.
func handle(b *testing.B, bus *Bus, topic string, one func()) (stop func()) {
	b.Helper()
	sub, err := bus.Subscriber("bench-"+topic, pubsub.SubscriberConfig{})
	require.NoError(b, err)
	in, err := sub.Subscribe(context.WithoutCancel(b.Context()), topic)
	require.NoError(b, err)
	var reading sync.WaitGroup
	reading.Go(func() {
		for msg := range in {
			msg.Ack()
			one()
		}
	})
	return func() {
		require.NoError(b, sub.Close())
		reading.Wait()
	}
}

func benchMessage(i int) *message.Message {
	msg := message.NewMessage(fmt.Sprint(i), make([]byte, 300))
	msg.Metadata.Set(pubsub.KeyHeader, fmt.Sprint("key-", i%1000))
	return msg
}

// BenchmarkBundle measures how long it takes to make bundles of a fetch's records.
func BenchmarkBundle(b *testing.B) {
	claim := fedClaim{records: make(chan *sarama.ConsumerMessage, 128)}
	raw := make([]*sarama.ConsumerMessage, cap(claim.records))
	for i := range raw {
		raw[i] = &sarama.ConsumerMessage{Offset: int64(i), Key: []byte("u:1:2"), Value: make([]byte, 300), Headers: []*sarama.RecordHeader{
			{Key: []byte(kafka.UUIDHeaderKey)},
			{Key: []byte("type"), Value: []byte("new_message")},
			{Key: []byte("correlation_id"), Value: []byte("abcdefghijklmnop-7")},
			{Key: []byte("traceparent"), Value: make([]byte, 55)},
		}}
	}
	bundles := newBundler(claim, newAssignment(nil, nil, nil), pubsub.SubscriberConfig{Bundle: len(raw)})
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range raw {
			claim.records <- r
		}
		if records := bundles.add(nil, <-claim.records); len(records) != len(raw) {
			b.Fatal(len(records))
		}
	}
}

// BenchmarkFill measures how long it takes to make the record of a message.
func BenchmarkFill(b *testing.B) {
	msg := message.NewMessage("X5hbZ0vFqmX6nRzUuJmN0g", make([]byte, 300))
	msg.Metadata = message.Metadata{pubsub.KeyHeader: "u:1001:1002", "type": "new_message", "correlation_id": "abcdefghijklmnop-7"}
	meta, p := &topic{name: "t", leaders: make([]int32, benchPartitions)}, &publisher{}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.fill(&kgo.Record{}, meta, msg); err != nil {
			b.Fatal(err)
		}
	}
}

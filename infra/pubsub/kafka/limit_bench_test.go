package kafka

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/broker"
	"millrace/infra/pubsub"
)

const (
	limitRecords = 8192
	limitBatch   = 64 // records of one Publish
	limitGroups  = 3  // as many handlers read a topic by default
)

// BenchmarkBusAgainstRawClients compares how long 8,192 records of 300 bytes take through an embedded broker to three consumer
// groups: by the bus, by franz-go alone, and by Sarama's consumers behind franz-go's producer. They take turns, so that what
// slows the machine down meets all of them. The share is how much of the bus's time the raw clients need.
func BenchmarkBusAgainstRawClients(b *testing.B) {
	embedded, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: b.TempDir(), Log: logTo(b)})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, embedded.Close()) })
	brokers := []string{embedded.Addr()}
	topic := func() string { return newTopic(b, brokers, events.EmbeddedPartitions) }
	ways := []struct {
		name string
		pass func() // takes all records through
		took time.Duration
	}{
		{name: "bus", pass: throughBus(b, brokers, topic())},
		{name: "franz-go", pass: throughFranz(b, brokers, topic())},
		{name: "sarama", pass: throughSarama(b, brokers, topic())},
	}
	for i := range ways {
		ways[i].pass() // what happens only once, such as joining the groups
	}
	for b.Loop() {
		for i := range ways {
			begin := time.Now()
			ways[i].pass()
			ways[i].took += time.Since(begin)
		}
	}
	for _, w := range ways {
		b.ReportMetric(w.took.Seconds()*1e6/float64(b.N*limitRecords), "µs/record/"+w.name)
		b.ReportMetric(w.took.Seconds()/ways[0].took.Seconds(), "share/"+w.name)
	}
}

// throughBus publishes from several goroutines, since one waits for the acknowledgement of its batch.
func throughBus(b *testing.B, brokers []string, topic string) func() {
	bus := open(b, Config{Brokers: brokers})
	var handled sync.WaitGroup
	for g := range limitGroups {
		sub, err := bus.Subscriber(fmt.Sprint("limit-", g, rand.Text()), pubsub.SubscriberConfig{Bundle: 128})
		require.NoError(b, err)
		in, err := sub.Subscribe(context.WithoutCancel(b.Context()), topic)
		require.NoError(b, err)
		var reading sync.WaitGroup
		for range events.EmbeddedPartitions {
			reading.Go(func() {
				for msg := range in {
					handled.Add(-len(pubsub.BundleOf(msg).Records))
					msg.Ack()
				}
			})
		}
		b.Cleanup(func() {
			require.NoError(b, sub.Close())
			reading.Wait()
		})
	}
	return func() {
		handled.Add(limitGroups * limitRecords)
		var publishing sync.WaitGroup
		for p := range limitRecords / limitBatch {
			publishing.Go(func() {
				{
					batch := make([]*message.Message, limitBatch)
					for i := range batch {
						batch[i] = benchMessage(p*limitBatch + i)
					}
					if err := bus.Publisher().Publish(topic, batch...); err != nil {
						b.Error(err)
					}
				}
			})
		}
		publishing.Wait()
		handled.Wait()
	}
}

// throughFranz consumes with one client for each group.
func throughFranz(b *testing.B, brokers []string, topic string) func() {
	var handled sync.WaitGroup
	for g := range limitGroups {
		client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumerGroup(fmt.Sprint("limit-", g, rand.Text())),
			kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		require.NoError(b, err)
		var reading sync.WaitGroup
		reading.Go(func() {
			for {
				fetches := client.PollFetches(b.Context())
				if fetches.IsClientClosed() || b.Context().Err() != nil {
					return
				}
				handled.Add(-fetches.NumRecords())
			}
		})
		b.Cleanup(func() {
			client.Close()
			reading.Wait()
		})
	}
	return producing(rawProducer(b, brokers, topic), &handled)
}

// producing returns a function that produces all records and waits until the groups have handled them.
func producing(produce func(), handled *sync.WaitGroup) func() {
	return func() {
		handled.Add(limitGroups * limitRecords)
		produce()
		handled.Wait()
	}
}

// rawProducer returns a function that produces all records with franz-go.
func rawProducer(b *testing.B, brokers []string, topic string) func() {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic))
	require.NoError(b, err)
	b.Cleanup(client.Close)
	return func() {
		for i := range limitRecords {
			r := &kgo.Record{Key: fmt.Append(nil, "key-", i%1000), Value: make([]byte, 300)}
			client.Produce(b.Context(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		}
	}
}

// counting is a Sarama handler that counts records.
type counting struct{ handled *sync.WaitGroup }

func (counting) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (counting) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c counting) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for r := range claim.Messages() {
		session.MarkMessage(r, "")
		c.handled.Done()
	}
	return nil
}

func throughSarama(b *testing.B, brokers []string, topic string) func() {
	var handled sync.WaitGroup
	for g := range limitGroups {
		group, err := sarama.NewConsumerGroup(brokers, fmt.Sprint("limit-", g, rand.Text()), consumerConfig(Config{}.withDefaults(), 0))
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
		var reading sync.WaitGroup
		reading.Go(func() {
			for ctx.Err() == nil {
				_ = group.Consume(ctx, []string{topic}, counting{&handled})
			}
		})
		reading.Go(func() {
			for range group.Errors() {
				continue
			}
		})
		b.Cleanup(func() {
			cancel()
			require.NoError(b, group.Close())
			reading.Wait()
		})
	}
	return producing(rawProducer(b, brokers, topic), &handled)
}

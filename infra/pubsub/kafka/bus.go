package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Bus is the message log in a Kafka cluster. It is safe for concurrent use.
type Bus struct {
	config    Config
	log       *slog.Logger
	client    *kgo.Client
	admin     *kadm.Client
	topics    *topics
	publisher *publisher
}

var _ pubsub.Bus = (*Bus)(nil)

// NewBus connects to the brokers, and waits for those that cannot be reached until the context ends. Topics must exist
// before they are used; see [EnsureTopics].
func NewBus(ctx context.Context, c Config, log *slog.Logger) (*Bus, error) {
	c = c.withDefaults()
	if len(c.Brokers) == 0 {
		return nil, errors.New("no Kafka brokers are configured")
	}
	client, err := newClient(c, producerOptions(c)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	admin := kadm.NewClient(client)
	topics := &topics{admin: admin, known: make(map[string]*topic)}
	if err := persist(ctx, func() error { return topics.loadAll(ctx, events.Topics()) }); err != nil {
		client.Close()
		return nil, fmt.Errorf("connect to Kafka at %v: %w", c.Brokers, err)
	}
	return &Bus{
		config: c, log: log, client: client, admin: admin, topics: topics,
		publisher: newPublisher(c, client, topics),
	}, nil
}

// Publisher publishes with the key in [pubsub.KeyHeader]; without one the messages are spread over the partitions. It
// keeps the order of a Publish within each of its partitions. A message whose outcome is unknown when the publish timeout
// has passed may still get into the log for a moment, but never behind what is published to its partition later.
func (b *Bus) Publisher() message.Publisher { return b.publisher }

// Position is the position of a message that was received, else of one that was published. Publishing a received message
// anew leaves its position as it is.
func (b *Bus) Position(msg *message.Message) (events.Position, error) {
	if pos, ok := msg.Context().Value(recordKey{}).(*record); ok {
		return b.position(pos.partition, pos.offset), nil
	}
	partition, ok := kafka.MessagePartitionFromCtx(msg.Context())
	offset, also := kafka.MessagePartitionOffsetFromCtx(msg.Context())
	if ok && also {
		return b.position(partition, offset), nil
	}
	if pos, ok := msg.Context().Value(publishedKey{}).(record); ok {
		return b.position(pos.partition, pos.offset), nil
	}
	return events.Position{}, errors.New("message was neither received from Kafka nor accepted by it")
}

func (b *Bus) position(partition int32, offset int64) events.Position {
	return events.Position{Partition: partition, Seq: events.Seq(b.config.Epoch, offset)}
}

// Close waits for what is being published, at most the publish timeout, and disconnects.
func (b *Bus) Close() error {
	err := b.publisher.Close()
	giveUp := time.AfterFunc(b.config.PublishTimeout, b.client.Close)
	b.publisher.busy.Wait()
	giveUp.Stop()
	b.client.Close()
	return err
}

// publishedKey is the context key of where a published message is.
type publishedKey struct{}

type record struct {
	partition int32
	offset    int64
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

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

	continuity *continuity

	ensuring sync.Mutex               // held by Ensure
	ensured  atomic.Pointer[[]string] // the topics beside those of package events
}

var _ pubsub.Bus = (*Bus)(nil)

// NewBus connects to the brokers. While they cannot be reached it goes on trying until the context ends. Topics must exist
// before they are used; see [EnsureTopics].
func NewBus(ctx context.Context, c Config, log *slog.Logger) (*Bus, error) {
	c = c.withDefaults()
	if len(c.Brokers) == 0 {
		return nil, errors.New("no Kafka brokers are configured")
	}
	client, err := newClient(c)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	admin := kadm.NewClient(client)
	topics := &topics{admin: admin, known: make(map[string]*topic)}
	if err := persist(ctx, func() error { return topics.loadAll(ctx, c.allTopics()) }); err != nil {
		client.Close()
		return nil, fmt.Errorf("connect to Kafka at %v: %w", c.Brokers, err)
	}
	b := &Bus{config: c, log: log, client: client, admin: admin, topics: topics}
	b.ensured.Store(&c.Topics)
	b.continuity = newContinuity(b)
	b.publisher, err = newPublisher(c, func() (*kgo.Client, error) {
		return newClient(c, append(producerOptions(c), kgo.WithHooks(b.continuity))...)
	}, topics, b.continuity)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	if err := b.continuity.start(ctx); err != nil {
		b.publisher.client.Load().Close()
		client.Close()
		return nil, fmt.Errorf("compare the log with what is known of it: %w", err)
	}
	return b, nil
}

// Ready returns why nothing can be published for now, or nil.
func (b *Bus) Ready() error { return b.continuity.writable() }

// Publisher returns the bus's publisher. It publishes a message with the key in [pubsub.KeyHeader], and spreads messages
// without a key over the partitions. It keeps the order of a Publish within each partition. When the publish timeout has
// passed and the outcome of a message is unknown, the message may still get into the log for a moment, but never after one
// that is published to its partition later.
func (b *Bus) Publisher() message.Publisher { return b.publisher }

// Position returns the position of a message that was received or published. A received message that is published again keeps
// its position.
func (b *Bus) Position(msg *message.Message) (events.Position, error) {
	if pos, ok := pubsub.Received(msg); ok {
		return pos, nil
	}
	if pos, ok := msg.Context().Value(publishedKey{}).(*events.Position); ok {
		return *pos, nil
	}
	return events.Position{}, errors.New("message was neither received from Kafka nor accepted by it")
}

// Close waits for what is being published, at most for the publish timeout, and disconnects.
func (b *Bus) Close() error {
	err := b.publisher.Close()
	giveUp := time.AfterFunc(b.config.PublishTimeout, func() { b.publisher.client.Load().Close() })
	b.publisher.busy.Wait()
	giveUp.Stop()
	b.continuity.close() // which replaces the client
	b.publisher.client.Load().Close()
	b.client.Close()
	return err
}

// publishedContext holds the position of a published message. Those of a call are allocated at once.
type publishedContext struct {
	context.Context //nolint:containedctx // it is one

	at events.Position
}

type publishedKey struct{}

// Value implements context.Context.
func (c *publishedContext) Value(key any) any {
	if key == (publishedKey{}) {
		return &c.at
	}
	return c.Context.Value(key)
}

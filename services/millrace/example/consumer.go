package example

import (
	"context"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Consume passes every event of message-events to handle, those of a conversation in their order, until the context ends. It
// runs in any process that reaches the brokers, with Watermill as it comes. An event is passed again after an error, and may
// be after a crash: it has the same id then.
func Consume(ctx context.Context, brokers []string, group string, handle func(events.Event) error, log watermill.LoggerAdapter) error {
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Version = sarama.V3_0_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest                // a new group begins with what is there
	config.Consumer.IsolationLevel = sarama.ReadCommitted                // what a transaction takes back was never said
	config.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond // after a crash no more than this comes again
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: brokers, ConsumerGroup: group, Unmarshaler: kafka.DefaultMarshaler{}, OverwriteSaramaConfig: config,
	}, log)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, log)
	if err != nil {
		return err
	}
	router.AddMiddleware(middleware.Retry{MaxRetries: 5, InitialInterval: 100 * time.Millisecond, Multiplier: 2}.Middleware, middleware.Recoverer)
	router.AddConsumerHandler(group, events.TopicMessages, subscriber, func(msg *message.Message) error {
		if msg.Metadata.Get(pubsub.ReplayHandlerHeader) != "" {
			return nil // it repeats an earlier record for one of Millrace's own handlers
		}
		partition, _ := kafka.MessagePartitionFromCtx(msg.Context())
		offset, _ := kafka.MessagePartitionOffsetFromCtx(msg.Context())
		at := events.Position{Partition: partition, Seq: events.Seq(0, offset)}
		event, err := events.Decode(events.TopicMessages, at, msg.Payload)
		if err != nil { // it will not get better; Millrace's own handlers have it in their poison queue
			log.Error("record skipped", err, watermill.LogFields{"position": at.String()})
			return nil
		}
		if !event.Type.Known() {
			return nil // a later version of Millrace has made it
		}
		return handle(event)
	})
	return router.Run(ctx)
}

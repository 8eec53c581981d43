package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// bundler is a Sarama claim whose messages stand for up to config.Bundle records each: for all that came while the message before was
// being handled. A bundle has the place of its last record, so acknowledging it acknowledges all of them.
type bundler struct {
	sarama.ConsumerGroupClaim
	assignment *assignment
	config     pubsub.SubscriberConfig
	messages   chan *sarama.ConsumerMessage
}

func newBundler(from sarama.ConsumerGroupClaim, c *assignment, config pubsub.SubscriberConfig) *bundler {
	return &bundler{
		ConsumerGroupClaim: from, assignment: c, config: config,
		messages: make(chan *sarama.ConsumerMessage),
	}
}

// Messages implements sarama.ConsumerGroupClaim.
func (b *bundler) Messages() <-chan *sarama.ConsumerMessage { return b.messages }

// run makes bundles until Sarama's messages end or over is closed.
func (b *bundler) run(over <-chan struct{}) {
	defer close(b.messages)
	for first := range b.ConsumerGroupClaim.Messages() {
		records := b.collect([]*sarama.ConsumerMessage{first}, b.config.Gather/fetchSpread, over)
		if !b.offer(records, over) {
			return
		}
	}
}

// fetchSpread is the part of the time to gather in which the records of one fetch come. Sarama passes them on one by one.
const fetchSpread = 10

// collect adds the records that come within the time.
func (b *bundler) collect(
	records []*sarama.ConsumerMessage, within time.Duration, over <-chan struct{},
) []*sarama.ConsumerMessage {
	if within <= 0 {
		return records
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	for len(records) < b.config.Bundle {
		select {
		case next, ok := <-b.ConsumerGroupClaim.Messages():
			if !ok {
				return records
			}
			records = append(records, next)
		case <-timer.C:
			return records
		case <-over:
			return records
		}
	}
	return records
}

// offer waits until the bundle is taken, and adds the records that come meanwhile.
func (b *bundler) offer(records []*sarama.ConsumerMessage, over <-chan struct{}) bool {
	more := b.ConsumerGroupClaim.Messages()
	for {
		if len(records) == b.config.Bundle {
			more = nil
		}
		last := records[len(records)-1]
		b.assignment.prepare(records)
		select {
		case b.messages <- &sarama.ConsumerMessage{
			Topic: last.Topic, Partition: last.Partition, Offset: last.Offset, Timestamp: last.Timestamp, Key: last.Key,
		}:
			return true
		case next, ok := <-more:
			if !ok {
				more = nil
				continue
			}
			records = append(records, next)
		case <-over:
			return false
		}
	}
}

// bundle is a run of consecutive records of a partition that one message stands for. It travels in the message's context.
type bundle struct {
	raw    []*sarama.ConsumerMessage
	epochs *events.Epochs

	mu      sync.Mutex
	records []*message.Message // made from raw when the reader asks for them
}

// A message's context holds its bundle under bundleKey. The context of a single record holds its position under recordKey.
type (
	bundleKey struct{}
	recordKey struct{}
)

// hand returns a message for each record, the same ones in every call. The first call makes them in the reader's goroutine,
// from the context that the message has by then, so that they carry what the reader has added to it.
func (b *bundle) hand(ctx context.Context) []*message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.records == nil {
		b.records = make([]*message.Message, len(b.raw))
		contexts := make([]positionContext, len(b.raw))
		for i, r := range b.raw {
			contexts[i] = positionContext{ctx, recordKey{}, b.epochs.Position(r.Partition, r.Offset)}
			b.records[i] = messageOf(r)
			b.records[i].SetContext(&contexts[i])
		}
	}
	return b.records
}

// acknowledged returns how many of the records, counted from the first, were acknowledged.
func (b *bundle) acknowledged() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, msg := range b.records {
		select {
		case <-msg.Acked():
		default:
			return i
		}
	}
	return len(b.records)
}

// positionContext holds the position of a message under a key: recordKey in a bundle, publishedKey once it is published. Those of
// many messages are allocated at once.
type positionContext struct {
	context.Context //nolint:containedctx // it is one

	key any
	at  events.Position
}

// Value implements context.Context.
func (c *positionContext) Value(key any) any {
	if key == c.key {
		return &c.at
	}
	return c.Context.Value(key)
}

// Records implements pubsub.Bus.
func (b *Bus) Records(msg *message.Message) []*message.Message {
	if bundle, ok := msg.Context().Value(bundleKey{}).(*bundle); ok {
		return bundle.hand(msg.Context())
	}
	return []*message.Message{msg}
}

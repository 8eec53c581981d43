package kafka

import (
	"context"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
)

// bundler is a claim whose messages stand for up to max records each: for what has come while the one before was being
// handled. Its last record's place is the bundle's, so that acknowledging it acknowledges all.
type bundler struct {
	sarama.ConsumerGroupClaim
	claim    *claim
	max      int
	messages chan *sarama.ConsumerMessage
}

func newBundler(from sarama.ConsumerGroupClaim, c *claim, size int) *bundler {
	return &bundler{ConsumerGroupClaim: from, claim: c, max: size, messages: make(chan *sarama.ConsumerMessage)}
}

// Messages implements sarama.ConsumerGroupClaim.
func (b *bundler) Messages() <-chan *sarama.ConsumerMessage { return b.messages }

// run bundles until the claim's messages end or nobody takes any more.
func (b *bundler) run(over <-chan struct{}) {
	defer close(b.messages)
	for first := range b.ConsumerGroupClaim.Messages() {
		if !b.offer([]*sarama.ConsumerMessage{first}, over) {
			return
		}
	}
}

// offer waits until the bundle is taken, and adds to it what comes meanwhile.
func (b *bundler) offer(records []*sarama.ConsumerMessage, over <-chan struct{}) bool {
	more := b.ConsumerGroupClaim.Messages()
	for {
		if len(records) == b.max {
			more = nil
		}
		last := records[len(records)-1]
		b.claim.prepare(records)
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

// bundleKey is the context key of the records that a message stands for, recordKey that of where one of them is.
type (
	bundleKey struct{}
	recordKey struct{}
)

// recordsOf makes a message of each record.
func recordsOf(ctx context.Context, bundle []*sarama.ConsumerMessage) []*message.Message {
	messages := make([]*message.Message, 0, len(bundle))
	for _, r := range bundle {
		msg, err := unmarshaler{}.Unmarshal(r)
		if err != nil {
			panic(err) // Watermill's default unmarshaler has no errors
		}
		msg.SetContext(context.WithValue(ctx, recordKey{}, record{r.Partition, r.Offset}))
		messages = append(messages, msg)
	}
	return messages
}

// Records implements pubsub.Bus.
func (b *Bus) Records(msg *message.Message) []*message.Message {
	if records, ok := msg.Context().Value(bundleKey{}).([]*message.Message); ok {
		return records
	}
	return []*message.Message{msg}
}

package kafka

import (
	"slices"
	"time"

	"github.com/IBM/sarama"

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
		records := b.collect(b.add(nil, first), b.config.Gather/fetchSpread, over)
		if !b.offer(records, over) {
			return
		}
	}
}

// add adds the record, and all that wait behind it, as far as there is room in the bundle.
func (b *bundler) add(records []pubsub.RawRecord, next *sarama.ConsumerMessage) []pubsub.RawRecord {
	from := b.ConsumerGroupClaim.Messages()
	records = slices.Grow(records, min(1+len(from), b.config.Bundle-len(records)))
	for ok := true; ok; {
		records = append(records, b.assignment.record(next))
		if len(records) == b.config.Bundle {
			break
		}
		select {
		case next, ok = <-from:
		default:
			ok = false
		}
	}
	return records
}

// fetchSpread is the part of the time to gather in which the records of one fetch come. Sarama passes them on one by one.
const fetchSpread = 10

// collect adds the records that come within the time.
func (b *bundler) collect(records []pubsub.RawRecord, within time.Duration, over <-chan struct{}) []pubsub.RawRecord {
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
			records = b.add(records, next)
		case <-timer.C:
			return records
		case <-over:
			return records
		}
	}
	return records
}

// offer waits until the bundle is taken, and adds the records that come meanwhile.
func (b *bundler) offer(records []pubsub.RawRecord, over <-chan struct{}) bool {
	more := b.ConsumerGroupClaim.Messages()
	for {
		if len(records) == b.config.Bundle {
			more = nil
		}
		b.assignment.prepare(records)
		last := records[len(records)-1]
		select {
		case b.messages <- &sarama.ConsumerMessage{Topic: b.Topic(), Partition: last.Partition, Offset: events.Offset(last.Seq)}:
			return true
		case next, ok := <-more:
			if !ok {
				more = nil
				continue
			}
			records = b.add(records, next)
		case <-over:
			return false
		}
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/infra/pubsub"
)

// producerOptions configure franz-go's producer as the partition queues need it. A queue passes all records of a batch at
// once; the linger only keeps franz-go from splitting the batch before it has all of them, and ends when it has. When the
// deadline of a batch passes, franz-go gives the batch up even if it may have been sent. It then raises the producer's epoch,
// so that the brokers refuse what is still on its way once they have accepted anything later.
func producerOptions(c Config) []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxProduceRequestsInflightPerBroker(1),
		kgo.ProducerLinger(50 * time.Millisecond),
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProduceRequestTimeout(max(c.PublishTimeout/2, 100*time.Millisecond)),
		kgo.MaxBufferedRecords(2 * c.MaxPending), // never reached, because MaxPending comes first
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
}

// publisher splits a Publish into one call per partition and waits for all of them.
type publisher struct {
	connect    func() (*kgo.Client, error)
	client     atomic.Pointer[kgo.Client]
	topics     *topics
	continuity *continuity
	timeout    time.Duration

	max     int64
	pending atomic.Int64
	keyless atomic.Uint32

	mu     sync.Mutex
	closed bool
	queues map[place]*partitionQueue
	busy   sync.WaitGroup // queues with something to send
}

type place struct {
	topic     string
	partition int32
}

var _ message.Publisher = (*publisher)(nil)

// newPublisher returns a publisher with a client that connect has returned.
func newPublisher(c Config, connect func() (*kgo.Client, error), topics *topics, continuity *continuity) (*publisher, error) {
	p := &publisher{
		connect: connect, topics: topics, continuity: continuity, timeout: c.PublishTimeout, max: int64(c.MaxPending),
		queues: make(map[place]*partitionQueue),
	}
	return p, p.renew()
}

// renew goes on with a new client, which knows nothing of topics that were deleted and made anew, and is another producer for the
// brokers. A client that only forgets the topics numbers its batches from 0 again: if it has published to the new topic
// before, a broker takes the next batch for a repeat of the first one, and drops it.
func (p *publisher) renew() error {
	client, err := p.connect()
	if err != nil {
		return err
	}
	if before := p.client.Swap(client); before != nil {
		before.Close()
	}
	return nil
}

// Publish returns nil when all messages are in the log, else a [pubsub.PublishError].
func (p *publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	if err := p.continuity.writable(); err != nil {
		return &pubsub.PublishError{Err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	meta, err := p.topics.get(ctx, topic)
	if err != nil {
		return &pubsub.PublishError{Err: err}
	}
	records := make([]*kgo.Record, len(msgs))
	all := make([]kgo.Record, len(msgs))
	for i, msg := range msgs {
		records[i] = &all[i]
		if err := p.fill(records[i], meta, msg); err != nil {
			return &pubsub.PublishError{Err: err}
		}
	}
	epochs := p.continuity.epochs(topic)
	calls, err := p.enqueue(ctx, records, epochs)
	if err != nil {
		return &pubsub.PublishError{Err: err}
	}
	return outcome(ctx, calls, msgs, epochs)
}

// headerBytes is how long the values of most messages' headers are together.
const headerBytes = 64

// fill makes the record what watermill-kafka's marshaler writes, with the key of [pubsub.KeyHeader].
func (p *publisher) fill(r *kgo.Record, meta *topic, msg *message.Message) error {
	if msg.Metadata.Get(kafka.UUIDHeaderKey) != "" {
		return fmt.Errorf("metadata %s is reserved for the message's UUID", kafka.UUIDHeaderKey)
	}
	key := msg.Metadata.Get(pubsub.KeyHeader)
	texts := make([]byte, 0, len(msg.UUID)+len(key)+headerBytes) // of the key and the headers; what they grow out of stays theirs
	text := func(s string) []byte {
		begin := len(texts)
		texts = append(texts, s...)
		return texts[begin:len(texts):len(texts)]
	}
	r.Topic, r.Value = meta.name, msg.Payload
	r.Headers = append(make([]kgo.RecordHeader, 0, len(msg.Metadata)+1), kgo.RecordHeader{Key: kafka.UUIDHeaderKey, Value: text(msg.UUID)})
	for name, value := range msg.Metadata {
		if name != pubsub.KeyHeader {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: text(value)})
		}
	}
	if key != "" {
		r.Key = text(key)
		r.Partition = events.Partition(key, meta.partitions())
	} else {
		r.Partition = int32(p.keyless.Add(1) % uint32(meta.partitions()))
	}
	return nil
}

// enqueue puts the records into the queues of their partitions.
func (p *publisher) enqueue(ctx context.Context, records []*kgo.Record, epochs *events.Epochs) ([]*call, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, pubsub.ErrClosed
	}
	n := int64(len(records))
	if p.pending.Add(n) > p.max {
		p.pending.Add(-n)
		return nil, pubsub.ErrBusy
	}
	var calls []*call
	byPlace := make(map[place]*call, 1)
	for i, r := range records {
		at := place{r.Topic, r.Partition}
		c, ok := byPlace[at]
		if !ok {
			c = newCall(ctx, p.queue(at), epochs)
			byPlace[at] = c
			calls = append(calls, c)
		}
		c.records, c.indexes = append(c.records, r), append(c.indexes, i)
	}
	for _, c := range calls {
		c.queue.put(c)
	}
	return calls, nil
}

func (p *publisher) queue(at place) *partitionQueue {
	q, ok := p.queues[at]
	if !ok {
		q = &partitionQueue{publisher: p, at: at}
		p.queues[at] = q
	}
	return q
}

// outcome waits for the calls. If they fail, its error says how many messages, counted from the first, were accepted.
func outcome(ctx context.Context, calls []*call, msgs []*message.Message, epochs *events.Epochs) error {
	contexts := make([]publishedContext, len(msgs)) // without a context inside: not accepted
	var failed error
	for _, c := range calls {
		n, err := c.wait(ctx)
		for i, r := range c.records[:n] { // those after them may still be in use
			at := c.indexes[i]
			contexts[at] = publishedContext{msgs[at].Context(), epochs.Position(r.Partition, r.Offset)}
			msgs[at].SetContext(&contexts[at])
		}
		if failed == nil {
			failed = err
		}
	}
	if failed == nil {
		return nil
	}
	prefix := slices.IndexFunc(contexts, func(c publishedContext) bool { return c.Context == nil })
	if prefix < 0 {
		prefix = len(msgs)
	}
	return &pubsub.PublishError{Accepted: prefix, Err: failed}
}

// Close refuses what is published from now on; [Bus.Close] waits for the rest.
func (p *publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

var errUnknownOutcome = errors.New("no answer from the broker in time")

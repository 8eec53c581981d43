package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// handoverTime is how long a partition that is taken away waits for the record being handled, so that its next owner need not
// handle it again. The rebalance waits as long.
const handoverTime = 500 * time.Millisecond

// assignments are the partitions that a subscriber reads. They stand between Sarama and Watermill's handler, which would send
// a refused message again and again and never notice that the partition belongs to another member by now.
type assignments struct {
	bus     *Bus
	group   string
	config  pubsub.SubscriberConfig
	log     *slog.Logger
	running sync.WaitGroup

	mu       sync.Mutex
	draining bool
	current  map[place]*assignment
	basis    *basis // what the present session goes by
}

var _ kafka.SaramaTracer = (*assignments)(nil)

func newAssignments(b *Bus, group string, config pubsub.SubscriberConfig, log *slog.Logger) *assignments {
	return &assignments{bus: b, group: group, config: config, log: log, current: make(map[place]*assignment)}
}

// forward passes the message to the reader, unless its assignment is ending or the subscription's context is done. It gives
// up when Watermill's own context is done.
func (c *assignments) forward(
	subscription, watermill context.Context, topic string, msg *message.Message, out chan<- *message.Message,
) {
	partition, _ := kafka.MessagePartitionFromCtx(msg.Context())
	c.mu.Lock()
	assignment := c.current[place{topic, partition}]
	c.mu.Unlock()
	if assignment == nil {
		return
	}
	if subscription.Err() != nil {
		assignment.hold()
	}
	c.awaitCurrent(subscription, watermill, topic, assignment)
	if !assignment.take(msg) {
		return
	}
	assignment.unbundle(msg)
	select {
	case out <- msg:
	case <-assignment.holding.Done():
		assignment.withdraw(msg)
	case <-watermill.Done():
	}
}

// awaitCurrent waits until the epochs of the assignment are confirmed as the current ones, or the assignment is held.
func (c *assignments) awaitCurrent(subscription, watermill context.Context, topic string, assignment *assignment) {
	for {
		ok, looked := c.bus.continuity.current(topic, assignment.epochs)
		if ok {
			return
		}
		select {
		case <-looked:
		case <-assignment.holding.Done():
			return
		case <-subscription.Done():
			assignment.hold()
			return
		case <-watermill.Done():
			return
		}
	}
}

// drain holds all assignments and waits, at most for the timeout, until the messages being handled are acknowledged or
// refused. Then it ends the assignments that outlived their session: they send into Watermill's channel, which is closed
// next.
func (c *assignments) drain(timeout time.Duration) {
	c.mu.Lock()
	c.draining = true
	current := make([]*assignment, 0, len(c.current))
	var orphans []*assignment
	for _, assignment := range c.current {
		current = append(current, assignment)
		if assignment.orphan {
			orphans = append(orphans, assignment)
		}
	}
	c.mu.Unlock()
	for _, assignment := range current {
		assignment.hold()
	}
	expired, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, assignment := range current {
		select {
		case <-assignment.idle:
		case <-assignment.over:
		case <-expired.Done():
			assignment.abandon()
		}
	}
	for _, assignment := range orphans {
		<-assignment.over
	}
}

// consume reads the partition until Watermill's handler returns or the session ends.
func (c *assignments) consume(inner sarama.ConsumerGroupHandler, sess sarama.ConsumerGroupSession, from sarama.ConsumerGroupClaim) error {
	at := place{from.Topic(), from.Partition()}
	assignment := c.open(sess, at)
	if assignment == nil {
		return nil
	}
	after, err := c.position(sess.Context(), at, from.InitialOffset(), assignment.epochs)
	if err != nil {
		c.close(at, assignment)
		if sess.Context().Err() != nil {
			return nil // the session ended meanwhile, which is no error
		}
		return err
	}
	if c.config.Assigned != nil {
		c.config.Assigned(after)
	}
	if c.config.Bundle > 1 {
		bundles := newBundler(from, assignment, c.config)
		c.running.Go(func() { bundles.run(assignment.over) })
		from = bundles
	}
	result := make(chan error, 1)
	c.running.Go(func() {
		err := inner.ConsumeClaim(&session{sess, assignment}, from)
		if c.config.Released != nil {
			c.config.Released(at.partition)
		}
		c.close(at, assignment)
		result <- err
	})
	select {
	case err := <-result:
		return err
	case <-sess.Context().Done():
	case <-assignment.stale: // Sarama ends the session when this returns
	}
	assignment.hold()
	timer := time.NewTimer(handoverTime)
	defer timer.Stop()
	select {
	case <-assignment.idle:
	case <-assignment.over:
	case <-timer.C:
		c.log.Info("partition taken away while a record is being handled; it will be handled again",
			slog.String("topic", at.topic), slog.Int("partition", int(at.partition)))
	}
	assignment.end()
	if !c.outlive(assignment) {
		assignment.abandon()
		<-assignment.over
	}
	return nil
}

// outlive lets the assignment go on after its session until the reader is done, unless the subscription is ending.
func (c *assignments) outlive(assignment *assignment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	assignment.orphan = !c.draining
	return assignment.orphan
}

// open waits until an earlier assignment of the partition is over, because its last record may still be with the reader. It
// returns nil if the session ends first.
func (c *assignments) open(sess sarama.ConsumerGroupSession, at place) *assignment {
	for {
		c.mu.Lock()
		before, ok := c.current[at]
		if !ok && !c.draining {
			basis := c.basis
			epochs := basis.epochs[at.topic]
			opened := newAssignment(func(done events.Position) {
				next := events.Offset(done.Seq) + 1
				sess.MarkOffset(at.topic, at.partition, next, commitMetadata(epochs, at.partition, next))
			}, epochs, basis.stale)
			c.current[at] = opened
			c.mu.Unlock()
			return opened
		}
		c.mu.Unlock()
		var over chan struct{} // stays nil while draining, because the session is about to end
		if ok {
			over = before.over
		}
		select {
		case <-over:
		case <-sess.Context().Done():
			return nil
		}
	}
}

func (c *assignments) close(at place, assignment *assignment) {
	assignment.end()
	c.mu.Lock()
	delete(c.current, at)
	c.mu.Unlock()
	close(assignment.over)
}

// position returns the position before the offset. A negative offset means that the group has never committed one.
func (c *assignments) position(ctx context.Context, at place, offset int64, epochs *events.Epochs) (events.Position, error) {
	if offset < 0 {
		first, err := c.bus.firstOffset(ctx, at)
		if err != nil {
			return events.Position{}, err
		}
		offset = first
	}
	after := epochs.Position(at.partition, offset)
	after.Seq--
	return after, nil
}

// WrapConsumerGroupHandler puts the assignments between Sarama and Watermill's handler. Watermill means it for tracing.
func (c *assignments) WrapConsumerGroupHandler(h sarama.ConsumerGroupHandler) sarama.ConsumerGroupHandler {
	return hook{h, c}
}

// WrapConsumer is not used for groups.
func (c *assignments) WrapConsumer(consumer sarama.Consumer) sarama.Consumer { return consumer }

// WrapPartitionConsumer is not used for groups.
func (c *assignments) WrapPartitionConsumer(p sarama.PartitionConsumer) sarama.PartitionConsumer {
	return p
}

// WrapSyncProducer is not used for groups.
func (c *assignments) WrapSyncProducer(_ *sarama.Config, p sarama.SyncProducer) sarama.SyncProducer {
	return p
}

type hook struct {
	sarama.ConsumerGroupHandler
	assignments *assignments
}

// Setup is called before the session's first partition is read.
func (h hook) Setup(sess sarama.ConsumerGroupSession) error {
	h.assignments.setup(sess)
	return h.ConsumerGroupHandler.Setup(sess)
}

func (h hook) ConsumeClaim(sess sarama.ConsumerGroupSession, assignment sarama.ConsumerGroupClaim) error {
	return h.assignments.consume(h.ConsumerGroupHandler, sess, assignment)
}

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

// handoverTime is how long a partition that is taken away waits for the record being handled, so that its next owner
// need not handle it again. The rebalance waits as long.
const handoverTime = 500 * time.Millisecond

// claims are the partitions that a subscriber reads. It hooks itself between Sarama and Watermill, whose own handler
// would send a record that is not acknowledged again and again and never notice that the partition is another's now.
type claims struct {
	bus     *Bus
	group   string
	hooks   pubsub.Claims
	log     *slog.Logger
	running sync.WaitGroup

	mu       sync.Mutex
	draining bool
	current  map[place]*claim
	basis    *basis // of the session
}

var _ kafka.SaramaTracer = (*claims)(nil)

func newClaims(b *Bus, group string, hooks pubsub.Claims, log *slog.Logger) *claims {
	return &claims{bus: b, group: group, hooks: hooks, log: log, current: make(map[place]*claim)}
}

// forward hands the message to the reader, unless its claim is ending or the subscription's context is done. It gives up
// when the one that Watermill works under is.
func (c *claims) forward(
	subscription, watermill context.Context, topic string, msg *message.Message, out chan<- *message.Message,
) {
	partition, _ := kafka.MessagePartitionFromCtx(msg.Context())
	c.mu.Lock()
	claim := c.current[place{topic, partition}]
	c.mu.Unlock()
	if claim == nil {
		return
	}
	if subscription.Err() != nil {
		claim.hold()
	}
	c.awaitCurrent(subscription, watermill, topic, claim)
	if !claim.take(msg) {
		return
	}
	claim.unbundle(msg)
	select {
	case out <- msg:
	case <-claim.holding.Done():
		claim.withdraw(msg)
	case <-watermill.Done():
	}
}

// awaitCurrent waits until records may be handed out by the claim's epochs, or it ends.
func (c *claims) awaitCurrent(subscription, watermill context.Context, topic string, claim *claim) {
	for {
		ok, looked := c.bus.continuity.current(topic, claim.epochs)
		if ok {
			return
		}
		select {
		case <-looked:
		case <-claim.holding.Done():
			return
		case <-subscription.Done():
			claim.hold()
			return
		case <-watermill.Done():
			return
		}
	}
}

// drain lets no further message through and waits until those being handled are acknowledged or refused, at most for the
// timeout. Then it ends all claims that outlived their session: Watermill may close its channel, into which they send.
func (c *claims) drain(timeout time.Duration) {
	c.mu.Lock()
	c.draining = true
	current := make([]*claim, 0, len(c.current))
	var orphans []*claim
	for _, claim := range c.current {
		current = append(current, claim)
		if claim.orphan {
			orphans = append(orphans, claim)
		}
	}
	c.mu.Unlock()
	for _, claim := range current {
		claim.hold()
	}
	expired, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, claim := range current {
		select {
		case <-claim.idle:
		case <-claim.over:
		case <-expired.Done():
			claim.abandon()
		}
	}
	for _, claim := range orphans {
		<-claim.over
	}
}

// consume runs a claim until Watermill's handler returns or the session ends.
func (c *claims) consume(inner sarama.ConsumerGroupHandler, sess sarama.ConsumerGroupSession, from sarama.ConsumerGroupClaim) error {
	at := place{from.Topic(), from.Partition()}
	claim := c.open(sess, at)
	if claim == nil {
		return nil
	}
	after, err := c.position(sess.Context(), at, from.InitialOffset(), claim.epochs)
	if err != nil {
		c.close(at, claim)
		if sess.Context().Err() != nil {
			return nil // the session ended meanwhile, which is no fault
		}
		return err
	}
	if c.hooks.Claimed != nil {
		c.hooks.Claimed(after)
	}
	if c.hooks.Bundle > 1 {
		bundles := newBundler(from, claim, c.hooks.Bundle)
		c.running.Go(func() { bundles.run(claim.over) })
		from = bundles
	}
	result := make(chan error, 1)
	c.running.Go(func() {
		err := inner.ConsumeClaim(&session{sess, claim}, from)
		if c.hooks.Released != nil {
			c.hooks.Released(at.partition)
		}
		c.close(at, claim)
		result <- err
	})
	select {
	case err := <-result:
		return err
	case <-sess.Context().Done():
	case <-claim.stale: // that this returns ends the session
	}
	claim.hold()
	timer := time.NewTimer(handoverTime)
	defer timer.Stop()
	select {
	case <-claim.idle:
	case <-claim.over:
	case <-timer.C:
		c.log.Info("partition taken away while a record is being handled; it will be handled again",
			slog.String("topic", at.topic), slog.Int("partition", int(at.partition)))
	}
	claim.end()
	if !c.outlive(claim) {
		claim.abandon()
		<-claim.over
	}
	return nil
}

// outlive lets the claim go on after its session until the reader answers, unless the subscription is ending.
func (c *claims) outlive(claim *claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	claim.orphan = !c.draining
	return claim.orphan
}

// open waits until an earlier claim of the partition is over: its last record may still be with the reader. Nil if the
// session ends first.
func (c *claims) open(sess sarama.ConsumerGroupSession, at place) *claim {
	for {
		c.mu.Lock()
		before, ok := c.current[at]
		if !ok && !c.draining {
			basis := c.basis
			epochs := basis.epochs[at.topic]
			opened := newClaim(func(r *sarama.ConsumerMessage) {
				sess.MarkMessage(r, commitMetadata(epochs, r.Partition, r.Offset+1))
			}, epochs, basis.stale)
			c.current[at] = opened
			c.mu.Unlock()
			return opened
		}
		c.mu.Unlock()
		var over chan struct{} // never, when draining: the session is about to end
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

func (c *claims) close(at place, claim *claim) {
	claim.end()
	c.mu.Lock()
	delete(c.current, at)
	c.mu.Unlock()
	close(claim.over)
}

// position is the position before the offset, which is negative when the group has never committed any.
func (c *claims) position(ctx context.Context, at place, offset int64, epochs *events.Epochs) (events.Position, error) {
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

// WrapConsumerGroupHandler is how Watermill lets others see Sarama's claims; it is meant for tracing.
func (c *claims) WrapConsumerGroupHandler(h sarama.ConsumerGroupHandler) sarama.ConsumerGroupHandler {
	return hook{h, c}
}

// WrapConsumer is not used for groups.
func (c *claims) WrapConsumer(consumer sarama.Consumer) sarama.Consumer { return consumer }

// WrapPartitionConsumer is not used for groups.
func (c *claims) WrapPartitionConsumer(p sarama.PartitionConsumer) sarama.PartitionConsumer { return p }

// WrapSyncProducer is not used for groups.
func (c *claims) WrapSyncProducer(_ *sarama.Config, p sarama.SyncProducer) sarama.SyncProducer {
	return p
}

type hook struct {
	sarama.ConsumerGroupHandler
	claims *claims
}

// Setup comes before the session's first claim.
func (h hook) Setup(sess sarama.ConsumerGroupSession) error {
	h.claims.setup(sess)
	return h.ConsumerGroupHandler.Setup(sess)
}

func (h hook) ConsumeClaim(sess sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	return h.claims.consume(h.ConsumerGroupHandler, sess, claim)
}

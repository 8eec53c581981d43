package kafka

import (
	"context"
	"sync"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// assignment is one partition during one session of the consumer group. Watermill has at most one of its messages in flight.
// An assignment goes through two steps at its end. First it is held: the reader gets nothing new, and the assignment becomes
// idle when the reader is done with what it has. Then it ends: what is acknowledged after that is not marked.
type assignment struct {
	ctx     context.Context // of the assignment; done when it has ended
	cancel  context.CancelFunc
	mark    func(events.Position) // notes that everything up to the record is done with
	holding context.Context       // done when the assignment is held
	stop    context.CancelFunc
	idle    chan struct{}  // closed when the assignment is held and nothing is in flight
	over    chan struct{}  // closed when Watermill's handler has returned
	orphan  bool           // set if it outlives its session; guarded by the mutex of the assignments
	epochs  *events.Epochs // of its records
	stale   chan struct{}  // closed when the partition has to be read from another place

	mu       sync.Mutex
	inFlight *message.Message // the message that the reader has
	ended    bool
	waiting  *message.Message     // a message that the reader does not get; Watermill waits for its acknowledgement
	bundles  [][]pubsub.RawRecord // what is left of the bundle in flight, and the one after it
	bundle   *pubsub.Bundle       // the bundle in flight
	unwatch  func() bool          // stops watching the context of that bundle
}

func newAssignment(mark func(events.Position), epochs *events.Epochs, stale chan struct{}) *assignment {
	ctx, cancel := context.WithCancel(context.Background())
	holding, stop := context.WithCancel(context.Background())
	return &assignment{
		ctx: ctx, cancel: cancel, mark: mark, epochs: epochs, stale: stale, holding: holding, stop: stop, idle: make(chan struct{}), over: make(chan struct{}),
	}
}

// record returns a record of the assignment as the reader gets it.
func (c *assignment) record(r *sarama.ConsumerMessage) pubsub.RawRecord {
	headers := (*receivedHeaders)(r)
	return pubsub.RawRecord{
		Position: c.epochs.Position(r.Partition, r.Offset),
		Key:      r.Key, Value: r.Value,
		Headers: headers, Replay: headers.Get(pubsub.ReplayHandlerHeader) != "",
	}
}

// prepare notes the records that the next message stands for. A later call may extend them.
func (c *assignment) prepare(records []pubsub.RawRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.bundles); n > 0 && c.bundles[n-1][0].Position == records[0].Position {
		c.bundles[n-1] = records // with more records
		return
	}
	c.bundles = append(c.bundles, records)
}

// unbundle puts the bundle that the message stands for into its context, or else its position. The context of a bundle ends
// when the assignment is held.
func (c *assignment) unbundle(msg *message.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bundles) == 0 {
		partition, _ := kafka.MessagePartitionFromCtx(msg.Context())
		offset, _ := kafka.MessagePartitionOffsetFromCtx(msg.Context())
		msg.SetContext(pubsub.WithPosition(msg.Context(), c.epochs.Position(partition, offset)))
		return
	}
	ctx, cancel := context.WithCancel(msg.Context())
	c.unwatch = context.AfterFunc(c.holding, cancel)
	c.bundle = &pubsub.Bundle{Records: c.bundles[0]}
	msg.SetContext(pubsub.WithBundle(ctx, c.bundle))
}

// take reports whether the reader gets the message. When a message comes, the one before it was acknowledged or refused.
func (c *assignment) take(msg *message.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	if c.ended || c.holding.Err() != nil {
		c.keep(msg)
		return false
	}
	c.inFlight = msg
	return true
}

// withdraw takes back a message that the reader was about to get.
func (c *assignment) withdraw(msg *message.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.keep(msg)
}

// keep makes Watermill wait for the message's acknowledgement until the assignment ends. The mutex is held.
func (c *assignment) keep(msg *message.Message) {
	if c.ended {
		msg.Ack() // the offset is not marked, because the assignment has ended
		return
	}
	c.waiting = msg
}

// settle notes that nothing is in flight. The mutex is held.
func (c *assignment) settle() {
	if c.unwatch != nil {
		c.unwatch()
		c.unwatch = nil
	}
	c.settleBundle()
	if c.inFlight != nil && c.holding.Err() != nil {
		close(c.idle)
	}
	c.inFlight = nil
}

// settleBundle removes the acknowledged records from the bundle that was in flight. The mutex is held.
func (c *assignment) settleBundle() {
	if c.bundle == nil {
		return
	}
	done := c.bundle.Acknowledged()
	c.bundle = nil
	if done == 0 {
		return
	}
	if !c.ended {
		c.mark(c.bundles[0][done-1].Position)
	}
	if c.bundles[0] = c.bundles[0][done:]; len(c.bundles[0]) == 0 {
		c.bundles = c.bundles[1:]
	}
}

func (c *assignment) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding.Err() != nil {
		return
	}
	c.stop()
	if c.inFlight == nil {
		close(c.idle)
	}
}

// end makes Watermill's handler return, without marking, as soon as the reader has acknowledged or refused what is in flight.
func (c *assignment) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	c.ended = true
	if c.waiting != nil {
		c.waiting.Ack()
		c.waiting = nil
	}
}

// abandon ends the assignment without waiting for the reader. What the reader does with its message has no effect then.
func (c *assignment) abandon() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inFlight != nil {
		c.inFlight.Ack() // the offset is not marked, because the assignment has ended
	}
}

// session is Sarama's session, but its context lasts as long as the assignment. So the assignment may mark its last record
// after Sarama has cancelled the session, until ConsumeClaim returns.
type session struct {
	sarama.ConsumerGroupSession
	assignment *assignment
}

func (s *session) Context() context.Context { return s.assignment.ctx }

func (s *session) MarkMessage(msg *sarama.ConsumerMessage, _ string) {
	s.ConsumerGroupSession.MarkMessage(msg, commitMetadata(s.assignment.epochs, msg.Partition, msg.Offset+1))
	s.assignment.mu.Lock()
	defer s.assignment.mu.Unlock()
	if b := s.assignment.bundle; b != nil {
		b.Done(len(b.Records))
	}
	s.assignment.settle()
}

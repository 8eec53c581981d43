package kafka

import (
	"context"
	"sync"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// assignment is one partition for the time of one session. Watermill has at most one of its messages in flight. First it is
// held: nothing new reaches the reader, and it becomes idle when the reader is done with what it has. Then it ends: what
// is acknowledged now is not marked.
type assignment struct {
	ctx     context.Context // of the assignment, done when it has ended
	cancel  context.CancelFunc
	mark    func(*sarama.ConsumerMessage) // notes that everything up to the record is done
	holding context.Context               // done when held
	stop    context.CancelFunc
	idle    chan struct{}  // closed when held with nothing in flight
	over    chan struct{}  // closed when Watermill's handler has returned
	orphan  bool           // outlives its session; guarded by the mutex of the assignments
	epochs  *events.Epochs // of its records
	stale   chan struct{}  // closed when it has to begin anew

	mu       sync.Mutex
	inFlight *message.Message // what the reader has
	ended    bool
	waiting  *message.Message            // kept from the reader: Watermill waits for its acknowledgement
	bundles  [][]*sarama.ConsumerMessage // the one in flight and the one after it
	bundle   *bundle                     // in flight
	unwatch  func() bool                 // ends the watch for that bundle's context
}

func newAssignment(mark func(*sarama.ConsumerMessage), epochs *events.Epochs, stale chan struct{}) *assignment {
	ctx, cancel := context.WithCancel(context.Background())
	holding, stop := context.WithCancel(context.Background())
	return &assignment{
		ctx: ctx, cancel: cancel, mark: mark, epochs: epochs, stale: stale, holding: holding, stop: stop, idle: make(chan struct{}), over: make(chan struct{}),
	}
}

// prepare notes the records that the assignment's next message stands for. They may still become more.
func (c *assignment) prepare(records []*sarama.ConsumerMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.bundles); n > 0 && c.bundles[n-1][0] == records[0] {
		c.bundles[n-1] = records // grown
		return
	}
	c.bundles = append(c.bundles, records)
}

// unbundle gives the message the records that it stands for, if it is a bundle, else its position. A bundle's context ends
// when the assignment is held.
func (c *assignment) unbundle(msg *message.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bundles) == 0 {
		partition, _ := kafka.MessagePartitionFromCtx(msg.Context())
		offset, _ := kafka.MessagePartitionOffsetFromCtx(msg.Context())
		at := c.epochs.Position(partition, offset)
		msg.SetContext(context.WithValue(msg.Context(), recordKey{}, &at))
		return
	}
	ctx, cancel := context.WithCancel(msg.Context())
	c.unwatch = context.AfterFunc(c.holding, cancel)
	c.bundle = &bundle{raw: c.bundles[0], epochs: c.epochs}
	msg.SetContext(context.WithValue(ctx, bundleKey{}, c.bundle))
}

// take reports whether the reader gets the message. That it comes means that the one before is done with or refused.
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

// withdraw takes back a message that the reader was to get.
func (c *assignment) withdraw(msg *message.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.keep(msg)
}

// keep lets Watermill wait for the message until the assignment ends. The mutex is held.
func (c *assignment) keep(msg *message.Message) {
	if c.ended {
		msg.Ack() // not marked: the assignment has ended
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

// settleBundle drops from the bundle that was in flight what was acknowledged of it. The mutex is held.
func (c *assignment) settleBundle() {
	if c.bundle == nil {
		return
	}
	done := c.bundle.acknowledged()
	c.bundle = nil
	if done == 0 {
		return
	}
	if !c.ended {
		c.mark(c.bundles[0][done-1])
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

// end lets go of whatever is in flight: Watermill's handler returns as soon as the reader answers, without marking.
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

// abandon ends the assignment without waiting for the reader, whose answer then means nothing.
func (c *assignment) abandon() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inFlight != nil {
		c.inFlight.Ack() // not marked: the assignment has ended
	}
}

// session is Sarama's, but lasts as long as the assignment, which may mark its last record after the session was cancelled
// and until it returns.
type session struct {
	sarama.ConsumerGroupSession
	assignment *assignment
}

func (s *session) Context() context.Context { return s.assignment.ctx }

func (s *session) MarkMessage(msg *sarama.ConsumerMessage, _ string) {
	s.ConsumerGroupSession.MarkMessage(msg, commitMetadata(s.assignment.epochs, msg.Partition, msg.Offset+1))
	s.assignment.mu.Lock()
	defer s.assignment.mu.Unlock()
	s.assignment.settle()
}

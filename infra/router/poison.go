package router

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Headers of a record in the poison queue, beside those that it had. Key and value are the original's.
const (
	PoisonTopicHeader     = "poison_topic"
	PoisonPartitionHeader = "poison_partition"
	PoisonPositionHeader  = "poison_position"
	PoisonKeyHeader       = "poison_key"
	PoisonHandlerHeader   = "poison_handler"
	PoisonGroupHeader     = "poison_group"
	PoisonReasonHeader    = "poison_reason"
	PoisonTimeHeader      = "poison_time" // when it was poisoned, RFC 3339 in UTC
)

// ReasonMisplaced is the reason of a record that lies outside its conversation's partition.
const ReasonMisplaced = "misplaced"

const maxReasonBytes = 1 << 10

var errMisplaced = events.Permanent(errors.New(ReasonMisplaced))

// isPermanent reports whether the record belongs into the poison queue. Cancellation says nothing about a record.
func isPermanent(err error) bool {
	var panicked middleware.RecoveredPanicError
	return errors.As(err, &panicked) || events.IsPermanent(err) && !errors.Is(err, context.Canceled)
}

// poison publishes a record that cannot be handled to the poison queue. If that fails the record has failed.
func (c *consumer) poison(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		_, err := next(msg)
		if err == nil || !isPermanent(err) {
			return nil, err
		}
		d := deliveryOf(msg)
		why, stack := reason(err)
		if err := c.bus.Publisher().Publish(events.PoisonTopic(c.Topic), c.poisoned(msg, d, why)); err != nil {
			return nil, fmt.Errorf("poison (%s): %w", why, err)
		}
		d.outcome = Poisoned
		c.logger(d).Error("record poisoned", "reason", why, "stack", stack)
		return nil, nil
	}
}

func (c *consumer) poisoned(msg *message.Message, d *delivery, reason string) *message.Message {
	p := msg.Copy()
	// Of a replay that fails again the original is poisoned: its position is the delivery's.
	delete(p.Metadata, ReplayHandlerHeader)
	delete(p.Metadata, ReplayPositionHeader)
	p.Metadata.Set(PoisonTopicHeader, c.Topic)
	p.Metadata.Set(PoisonPartitionHeader, strconv.Itoa(int(d.Partition)))
	p.Metadata.Set(PoisonPositionHeader, d.Position.String())
	p.Metadata.Set(PoisonKeyHeader, msg.Metadata.Get(pubsub.KeyHeader))
	p.Metadata.Set(PoisonHandlerHeader, c.Name)
	p.Metadata.Set(PoisonGroupHeader, c.Group)
	p.Metadata.Set(PoisonReasonHeader, reason)
	p.Metadata.Set(PoisonTimeHeader, time.Now().UTC().Format(time.RFC3339))
	return p
}

// reason is the error in words, and the stack if it was a panic.
func reason(err error) (why, stack string) {
	why = err.Error()
	var panicked middleware.RecoveredPanicError
	if errors.As(err, &panicked) {
		why, stack = fmt.Sprintf("panic: %v", panicked.V), panicked.Stacktrace
	}
	return strings.ToValidUTF8(why[:min(len(why), maxReasonBytes)], ""), stack
}

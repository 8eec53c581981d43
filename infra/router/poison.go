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
	"go.opentelemetry.io/otel/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// poisonPrefix begins the names of the headers that only records of a poison queue have. If the record that is poisoned has
// headers with this prefix, or with replayPrefix, they are forged and are left out.
const poisonPrefix = "poison_"

// The headers of a record in the poison queue, beside those that the original had. Key and value are the original's, as far
// as they fit.
const (
	PoisonTopicHeader     = poisonPrefix + "topic"
	PoisonPartitionHeader = poisonPrefix + "partition"
	PoisonPositionHeader  = poisonPrefix + "position"
	PoisonKeyHeader       = poisonPrefix + "key"
	PoisonHandlerHeader   = poisonPrefix + "handler"
	PoisonGroupHeader     = poisonPrefix + "group"
	PoisonReasonHeader    = poisonPrefix + "reason"
	PoisonTimeHeader      = poisonPrefix + "time" // when it was poisoned, as RFC 3339 in UTC
	// PoisonValueBytesHeader is set only if the value was too large for the queue and was cut. It holds the length of the
	// original's value, which the topic keeps until retention removes it.
	PoisonValueBytesHeader = poisonPrefix + "value_bytes"
	// PoisonKeyBytesHeader and PoisonDroppedHeadersHeader hold, in the same way, the length of the original's key, and how
	// many of its headers were left out.
	PoisonKeyBytesHeader       = poisonPrefix + "key_bytes"
	PoisonDroppedHeadersHeader = poisonPrefix + "dropped_headers"
)

// ReasonMisplaced is the reason of a record that lies outside its conversation's partition.
const ReasonMisplaced = "misplaced"

var errMisplaced = events.Permanent(errors.New(ReasonMisplaced))

// isPermanent reports whether the record belongs into the poison queue. A cancellation says nothing about a record.
func isPermanent(err error) bool {
	var panicked middleware.RecoveredPanicError
	return errors.As(err, &panicked) || events.IsPermanent(err) && !errors.Is(err, context.Canceled)
}

// poison publishes a record that cannot be handled to the poison queue. If that fails, the delivery has failed.
func (c *consumer) poison(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		_, err := next(msg)
		if err == nil || !isPermanent(err) {
			return nil, err
		}
		d := deliveryOf(msg)
		why, stack := reason(err)
		poisoned := c.poisoned(msg, d, why)
		if d.span != nil {
			d.span.SetStatus(codes.Error, why)
			telemetry.Carry(d, poisoned)
		}
		if err := c.bus.Publisher().Publish(events.PoisonTopic(c.Topic), poisoned); err != nil {
			return nil, fmt.Errorf("poison (%s): %w", why, err)
		}
		d.outcome = Poisoned
		c.logger(d).ErrorContext(d, "record poisoned", "reason", why, "stack", stack)
		return nil, nil
	}
}

// poisoned returns the record for the queue. A replay that fails again is recorded as its original, at the original position.
func (c *consumer) poisoned(msg *message.Message, d *delivery, reason string) *message.Message {
	value, size := CutValue(msg.Payload)
	p := message.NewMessage("", value)
	if size = max(size, originalBytes(msg)); size > 0 {
		p.Metadata.Set(PoisonValueBytesHeader, strconv.Itoa(size))
	}
	key := msg.Metadata.Get(pubsub.KeyHeader)
	if len(key) > maxPoisonKeyBytes {
		p.Metadata.Set(PoisonKeyBytesHeader, strconv.Itoa(len(key)))
		key = key[:maxPoisonKeyBytes]
	}
	if dropped := CopyHeaders(p.Metadata, msg.Metadata); dropped > 0 {
		p.Metadata.Set(PoisonDroppedHeadersHeader, strconv.Itoa(dropped))
	}
	p.Metadata.Set(pubsub.KeyHeader, key)
	p.Metadata.Set(PoisonTopicHeader, c.Topic)
	p.Metadata.Set(PoisonPartitionHeader, strconv.Itoa(int(d.Partition)))
	p.Metadata.Set(PoisonPositionHeader, d.Position.String())
	p.Metadata.Set(PoisonKeyHeader, key)
	p.Metadata.Set(PoisonHandlerHeader, c.Name)
	p.Metadata.Set(PoisonGroupHeader, c.Group)
	p.Metadata.Set(PoisonReasonHeader, reason)
	p.Metadata.Set(PoisonTimeHeader, time.Now().UTC().Format(time.RFC3339))
	return p
}

// reason returns the error's text, and the stack if it was a panic.
func reason(err error) (why, stack string) {
	why = err.Error()
	var panicked middleware.RecoveredPanicError
	if errors.As(err, &panicked) {
		why, stack = fmt.Sprintf("panic: %v", panicked.V), panicked.Stacktrace
	}
	return strings.ToValidUTF8(why[:min(len(why), maxReasonBytes)], ""), stack
}

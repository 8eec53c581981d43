package message

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/grpc/metadata"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// maxInFlight bounds the messages of a node that wait for the broker. Further sends are refused at once, so that a broker
// which does not respond fills no memory.
const maxInFlight = 1024

// storedWait is how long a call waits until what it has published is stored.
const storedWait = 3 * time.Second

var (
	errBusy      = errors.New("too many messages wait for the broker")
	errNotStored = errors.New("not stored yet")
)

// newRecord returns the record of an event. The claims of the sender's token go into the headers, for routing.
func newRecord(e *events.Event, sender *millracev1.Sender, correlation string) (*message.Message, error) {
	msg, err := pubsub.NewRecord(e)
	if err != nil {
		return nil, err
	}
	set := func(name, value string) {
		if value != "" {
			msg.Metadata.Set(name, value)
		}
	}
	set(events.UserTypeHeader, sender.GetUserType())
	set(events.RegionHeader, sender.GetRegion())
	set(events.CorrelationHeader, correlation)
	return msg, nil
}

// publish publishes the messages of one conversation, in order. It returns how many, counted from the first, were accepted:
// all if the error is nil. It returns within the bus's deadline and cannot be cancelled.
func (s *Service) publish(msgs ...*message.Message) (int, error) {
	n := int64(min(len(msgs), maxInFlight))
	if !s.slots.TryAcquire(n) {
		return 0, errBusy
	}
	defer s.slots.Release(n)
	err := s.bus.Publisher().Publish(events.TopicMessages, msgs...)
	if err == nil {
		return len(msgs), nil
	}
	var partly *pubsub.PublishError
	if errors.As(err, &partly) {
		return partly.Accepted, err
	}
	return 0, err
}

// correlation returns the id that the caller has given to the change or the call, or an empty string.
func correlation(ctx context.Context) string {
	if id := events.Correlation(ctx); id != "" {
		return id
	}
	return strings.Join(metadata.ValueFromIncomingContext(ctx, events.CorrelationHeader), ",")
}

// publishEvent publishes an event that is no message and returns its position.
func (s *Service) publishEvent(
	ctx context.Context, e *events.Event, sender *millracev1.Sender,
) (events.Position, error) {
	return s.publishDecided(ctx, e, sender, &events.Decisions{})
}

// publishDecided publishes an event with what hooks have decided on it.
func (s *Service) publishDecided(
	ctx context.Context, e *events.Event, sender *millracev1.Sender, decided *events.Decisions,
) (events.Position, error) {
	msg, err := newRecord(e, sender, correlation(ctx))
	if err != nil {
		return events.Position{}, err
	}
	telemetry.Carry(ctx, msg)
	decided.SetHeaders(msg.Metadata.Set)
	if _, err := s.publish(msg); err != nil {
		return events.Position{}, err
	}
	pos, err := s.bus.Position(msg)
	if err != nil {
		return pos, fmt.Errorf("position of a published %s: %w", e.Type, err)
	}
	return pos, nil
}

package telemetry

import (
	"context"
	"errors"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/pubsub"
)

// tracedBus is a bus whose publisher records spans.
type tracedBus struct {
	pubsub.Bus
	publisher message.Publisher
}

// TraceBus returns the bus with a publisher that records a span for each message whose context has one that is recorded, and
// adds the headers of W3C Trace Context to it. It changes no other message. Without a tracer it returns the bus as it is.
func TraceBus(t *Tracer, bus pubsub.Bus) pubsub.Bus {
	if t == nil {
		return bus
	}
	return tracedBus{bus, tracedPublisher{bus.Publisher(), t, bus}}
}

func (b tracedBus) Publisher() message.Publisher { return b.publisher }

type tracedPublisher struct {
	message.Publisher
	tracer *Tracer
	bus    pubsub.Bus
}

func (p tracedPublisher) Publish(topic string, messages ...*message.Message) error {
	var spans []trace.Span // by message, if any is recorded
	for i, m := range messages {
		if !trace.SpanContextFromContext(m.Context()).IsSampled() {
			continue
		}
		if spans == nil {
			spans = make([]trace.Span, len(messages))
		}
		spans[i] = p.start(topic, m, len(messages))
	}
	err := p.Publisher.Publish(topic, messages...)
	if spans == nil {
		return err
	}
	accepted := len(messages)
	var partly *pubsub.PublishError
	if errors.As(err, &partly) {
		accepted = partly.Accepted
	} else if err != nil {
		accepted = 0
	}
	for i, span := range spans {
		switch {
		case span == nil:
			continue
		case i >= accepted:
			span.RecordError(err)
			span.SetStatus(codes.Error, "not accepted by the broker")
		default:
			if pos, err := p.bus.Position(messages[i]); err == nil {
				span.SetAttributes(PositionAttributes(pos)...)
			}
		}
		span.End()
	}
	return err
}

func (p tracedPublisher) start(topic string, m *message.Message, together int) trace.Span {
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("publish"),
		semconv.MessagingDestinationName(topic), semconv.MessagingMessageID(m.UUID),
		semconv.MessagingKafkaMessageKey(m.Metadata.Get(pubsub.KeyHeader)), semconv.MessagingMessageBodySize(len(m.Payload)),
	}
	if id := m.Metadata.Get(events.CorrelationHeader); id != "" {
		attributes = append(attributes, attribute.String(events.CorrelationHeader, id))
	}
	if together > 1 {
		attributes = append(attributes, semconv.MessagingBatchMessageCount(together))
	}
	var ctx context.Context
	ctx, span := p.tracer.Start(m.Context(), "publish "+topic,
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attributes...))
	inject(ctx, m.Metadata)
	return span
}

// PositionAttributes say where in the log a record is.
func PositionAttributes(pos events.Position) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingDestinationPartitionID(strconv.Itoa(int(pos.Partition))),
		semconv.MessagingKafkaOffset(int(events.Offset(pos.Seq))),
		attribute.Int64("millrace.seq", pos.Seq),
	}
}

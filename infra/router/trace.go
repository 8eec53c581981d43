package router

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// startSpan returns a context with a span in which the handler handles the record of the message, or the context as it is if
// that belongs to no trace that is recorded. The span is a child of the one in which the record was published.
func (c *consumer) startSpan(ctx context.Context, msg *message.Message, at events.Position) (context.Context, trace.Span) {
	remote := telemetry.HeadersContext(msg.Metadata.Get)
	if remote == nil {
		return ctx, nil
	}
	ctx, span := c.tracer.Start(telemetry.WithRemote(ctx, remote), "process "+c.Topic,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(c.spanAttributes(telemetry.PositionAttributes(at)...)...))
	if !span.IsRecording() {
		return ctx, nil
	}
	span.SetAttributes(semconv.MessagingMessageID(msg.UUID))
	if id := correlation(msg.Metadata); id != "" {
		span.SetAttributes(attribute.String(events.CorrelationHeader, id))
	}
	return ctx, span
}

func (c *consumer) spanAttributes(more ...attribute.KeyValue) []attribute.KeyValue {
	return append(more,
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(c.Topic), semconv.MessagingConsumerGroupName(c.Group),
		attribute.String("millrace.handler", c.Name),
	)
}

// endSpan ends the span of a delivery.
func (d *delivery) endSpan(err error) {
	d.span.SetAttributes(attribute.String("millrace.outcome", string(d.outcome)))
	if err != nil && !errors.Is(err, context.Canceled) {
		d.span.SetStatus(codes.Error, "it comes again")
	}
	d.span.End()
}

func failSpan(span trace.Span, err error) {
	span.RecordError(err)
	span.SetStatus(codes.Error, "")
}

// batchSpans are the spans of a batch: one for each record that belongs to a trace, in that trace, so that every trace is
// whole.
type batchSpans struct {
	records []trace.Span // by record; nil for those that belong to no trace
	batch   trace.Span   // nil unless several records belong to traces
}

// startBatch starts the spans of a batch, notes them in the records, and returns a context with the span in which the handler
// handles the batch. That is the span of the record if only one belongs to a trace. Otherwise it is a child of the first one's,
// with links to the others'.
func (c *consumer) startBatch(
	ctx context.Context, raw []pubsub.RawRecord, b batch,
) (context.Context, *batchSpans) {
	if c.tracer == nil {
		return ctx, nil
	}
	var spans *batchSpans
	first := ctx
	var links []trace.Link
	records := b.records
	for i := range records {
		published := &raw[b.places[i]]
		if !telemetry.Traced(published.Headers) {
			continue
		}
		own, span := c.startSpan(ctx, published.Message(ctx), published.Position)
		if span == nil {
			continue
		}
		if spans == nil {
			spans = &batchSpans{records: make([]trace.Span, len(records))}
		}
		spans.records[i] = span
		records[i].Trace = telemetry.ContextOf(span)
		if first == ctx {
			first = own
		} else {
			links = append(links, trace.Link{SpanContext: span.SpanContext()})
		}
	}
	if len(links) > 0 {
		first, spans.batch = c.tracer.Start(first, "process batch "+c.Topic, trace.WithLinks(links...),
			trace.WithAttributes(c.spanAttributes(semconv.MessagingBatchMessageCount(len(records)))...))
	}
	return first, spans
}

// of returns the context of a record in the batch, for its log lines.
func (s *batchSpans) of(ctx context.Context, record int) context.Context {
	if s == nil || s.records[record] == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, s.records[record])
}

// end ends the spans. Records of a failed batch, and those with errors, go on in further spans.
func (s *batchSpans) end(errs []error, failed error) {
	if s == nil {
		return
	}
	for i, span := range s.records {
		if span == nil {
			continue
		}
		err := failed
		if err == nil {
			err = errs[i]
		}
		outcome := Handled
		if err != nil {
			outcome = Failed
			failSpan(span, err)
		}
		span.SetAttributes(attribute.String("millrace.outcome", string(outcome)))
		span.End()
	}
	if s.batch == nil {
		return
	}
	if failed != nil {
		failSpan(s.batch, failed)
	}
	s.batch.End()
}

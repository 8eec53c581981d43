package connect

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// maxDelivered bounds the spans of one delivery, so that a large group does not crowd out everything else. Further sessions of
// this gateway get the push without one.
const maxDelivered = 16

// startSpan returns the context of the client's request, with the span that records it. Without a tracer, or if the request
// is not sampled, the span is nil.
func (s *session) startSpan(ctx context.Context, r request) (context.Context, trace.Span) {
	if s.gw.cfg.Tracer == nil {
		return ctx, nil
	}
	recorded, span := s.gw.cfg.Tracer.Start(ctx, r.verb, trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return ctx, nil // most requests, so nothing is composed for them
	}
	span.SetAttributes(
		attribute.String(events.CorrelationHeader, s.correlation(r.id)), semconv.UserID(strconv.FormatInt(s.identity.User, 10)),
	)
	return recorded, span
}

// endSpan ends the span of a request, if there is one, with its answer.
func endSpan(span trace.Span, refused *refusal) {
	if span == nil {
		return
	}
	result := "ok"
	if refused != nil {
		result = refused.Code
	}
	span.SetAttributes(attribute.String("millrace.result", result))
	if result == codeUnavailable || result == codeInternal {
		span.SetStatus(codes.Error, refused.Message)
	}
	span.End()
}

// trace makes the change part of the trace of its request.
func (m *outgoing) trace(span trace.Span, conversation string) {
	m.span = span
	span.SetAttributes(attribute.String("millrace.conversation", conversation))
}

// deliverSpan records a delivery from when the gateway has it until it was written to the socket of one session. If it is
// dropped before, the span never ends, and nobody sees it.
type deliverSpan struct{ trace.Span }

// end is called when the write has ended.
func (s *deliverSpan) end(err error) {
	if err != nil {
		s.RecordError(err)
		s.SetStatus(codes.Error, "not written")
	}
	s.End()
}

// deliveryTrace is the trace of the delivery that the hub is giving to its sessions. The hub's lock guards it.
type deliveryTrace struct {
	ctx  context.Context //nolint:containedctx // nil if the delivery belongs to no trace
	left int             // how many more spans it may have
}

// traceDelivery is called before a delivery is given to sessions. There is a tracer.
func (h *hub) traceDelivery(c *millracev1.TraceContext) {
	h.tracing = deliveryTrace{}
	if c != nil {
		h.tracing = deliveryTrace{telemetry.WithRemote(h.ctx, c), maxDelivered}
	}
}

// startDeliver returns a span for the delivery to the session, or nil.
func (h *hub) startDeliver(sub *subscriber, pos events.Position) *deliverSpan {
	if h.tracing.left == 0 {
		return nil
	}
	h.tracing.left--
	_, span := h.tracer.Start(h.tracing.ctx, "deliver", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(telemetry.PositionAttributes(pos)...))
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(semconv.UserID(strconv.FormatInt(sub.user, 10)), semconv.SessionID(sub.id))
	return &deliverSpan{span}
}

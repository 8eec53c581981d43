package message

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// A SendBatches stream carries changes of many traces for as long as it lives, so the instrumentation of gRPC leaves it out.
// Every change names the span in which its gateway makes it, and has a span of its own here.

// sendBatches is how the changes of batches arrive.
const sendBatches = "millrace.v1.MessageService/SendBatches"

// startChange returns a context with a span for a change that came in a batch. If the change belongs to no trace it returns
// ctx and no span. There is a tracer.
func (s *Service) startChange(ctx context.Context, from *millracev1.TraceContext, correlation string) (context.Context, trace.Span) {
	if from == nil {
		return ctx, nil
	}
	ctx, span := s.tracer.Start(telemetry.WithRemote(ctx, from), sendBatches, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.RPCSystemNameGRPC, semconv.RPCMethod(sendBatches), attribute.String(events.CorrelationHeader, correlation)))
	return ctx, span
}

// endChange ends the span, if there is one, with the result of the change.
func endChange(span trace.Span, result *millracev1.SendResult) {
	if span == nil {
		return
	}
	code := codes.Code(result.GetCode())
	span.SetAttributes(semconv.RPCResponseStatusCode(telemetry.CodeName(code)))
	if telemetry.ServerFault(code) {
		span.SetStatus(otelcodes.Error, result.GetError())
	}
	span.End()
}

// sendSpan is the span of a send of a batch, and the context that has it.
type sendSpan struct {
	context.Context //nolint:containedctx // each message of a batch has its own

	span trace.Span // nil unless the message belongs to a trace
}

// startSends starts a span for each of the requests that belong to a trace. Without a tracer, or if none does, it returns nil.
func (s *Service) startSends(ctx context.Context, requests []*millracev1.SendWSMessageRequest) []sendSpan {
	inTrace := func(r *millracev1.SendWSMessageRequest) bool { return r.GetTrace() != nil }
	if s.tracer == nil || !trace.SpanContextFromContext(ctx).IsSampled() && !slices.ContainsFunc(requests, inTrace) {
		return nil
	}
	spans := make([]sendSpan, len(requests))
	for i, r := range requests {
		own, span := s.startChange(ctx, r.GetTrace(), r.GetCorrelationId())
		spans[i] = sendSpan{own, span}
	}
	return spans
}

// endSends ends the spans of runs that are done with.
func endSends(runs []*sending) {
	for _, p := range runs {
		for i, s := range p.spans {
			endChange(s.span, p.results[i])
		}
	}
}

package cluster

import (
	"context"

	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// sendBatches is the call that carries batches. Its stream lives as long as the node, so each change has a span of its own.
const sendBatches = "millrace.v1.MessageService/SendBatches"

// startCalls starts spans for those changes that belong to traces, and names each span in its change, so that the node goes
// on with it.
func (b *SendBatch) startCalls(node string) {
	if b.Spans == nil {
		return
	}
	b.calls = make([]trace.Span, len(b.Changes))
	for i, span := range b.Spans {
		if span == nil {
			continue
		}
		_, b.calls[i] = span.TracerProvider().Tracer(telemetry.Scope).Start(trace.ContextWithSpan(context.Background(), span), sendBatches,
			trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(semconv.RPCSystemNameGRPC, semconv.RPCMethod(sendBatches), semconv.ServerAddress(node)))
		if send := b.Changes[i].GetSend(); send != nil {
			send.Trace = telemetry.ContextOf(b.calls[i])
		} else {
			b.Changes[i].Trace = telemetry.ContextOf(b.calls[i])
		}
	}
}

// done ends the spans and calls Done.
func (b *SendBatch) done(results []*millracev1.SendResult, err error) {
	for i, call := range b.calls {
		if call == nil {
			continue
		}
		switch {
		case err != nil:
			call.RecordError(err)
			call.SetStatus(otelcodes.Error, err.Error())
		case i < len(results):
			code := codes.Code(results[i].GetCode())
			call.SetAttributes(semconv.RPCResponseStatusCode(telemetry.CodeName(code)))
			if code != codes.OK {
				call.SetStatus(otelcodes.Error, results[i].GetError())
			}
		}
		call.End()
	}
	b.Done(results, err)
}

package cluster

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// named returns the span that the context names.
func named(c *millracev1.TraceContext) trace.SpanID {
	return trace.SpanContextFromContext(telemetry.WithRemote(context.Background(), c)).SpanID()
}

func TestABatchThatGoesToAnotherNodeHasASpanForEach(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	tracer := telemetry.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)))
	_, send := tracer.Start(t.Context(), "send")
	_, edit := tracer.Start(t.Context(), "edit")
	sends, edits := &millracev1.SendWSMessageRequest{}, &millracev1.EditMessageRequest{}
	var answered []error
	b := &SendBatch{
		Changes: []*millracev1.Change{
			{Kind: &millracev1.Change_Send{Send: sends}}, {Kind: &millracev1.Change_Edit{Edit: edits}}, {Kind: &millracev1.Change_Recall{}},
		},
		Spans: []trace.Span{send, edit, nil},
		Done:  func(_ []*millracev1.SendResult, err error) { answered = append(answered, err) },
	}

	b.startCalls("first:9090")
	first := named(sends.GetTrace())
	require.NotEqual(t, send.SpanContext().SpanID(), first)
	b.done(nil, ErrUnsent)
	b.startCalls("second:9090")
	require.NotEqual(t, first, named(sends.GetTrace()))
	require.Nil(t, b.Changes[0].GetTrace(), "the send has it")
	require.Nil(t, b.Changes[2].GetTrace())
	b.done([]*millracev1.SendResult{{}, {Code: int32(codes.NotFound), Error: "no such message"}, {}}, nil)

	require.Equal(t, []error{ErrUnsent, nil}, answered)
	spans := kept.GetSpans()
	require.Len(t, spans, 4)
	for i, parent := range []trace.Span{send, edit, send, edit} {
		require.Equal(t, parent.SpanContext().SpanID(), spans[i].Parent.SpanID())
		require.Equal(t, trace.SpanKindClient, spans[i].SpanKind)
		require.Equal(t, i == 2, spans[i].Status.Code == otelcodes.Unset)
	}
	require.Equal(t, named(sends.GetTrace()), spans[2].SpanContext.SpanID())
	require.Equal(t, named(b.Changes[1].GetTrace()), spans[3].SpanContext.SpanID())
	require.Subset(t, spans[3].Attributes, []attribute.KeyValue{
		attribute.String("server.address", "second:9090"), attribute.String("rpc.response.status_code", "NOT_FOUND"),
		attribute.String("rpc.method", "millrace.v1.MessageService/SendBatches"),
	})
}

func TestABatchOfNoTraceCostsNothing(t *testing.T) {
	b := &SendBatch{Changes: []*millracev1.Change{{}}, Done: func([]*millracev1.SendResult, error) {}}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b.startCalls("node")
		b.done(nil, nil)
	}))
}

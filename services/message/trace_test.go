package message

import (
	"context"
	"errors"
	"fmt"
	"testing"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// tracedNode is a service that records, and what it has published.
type tracedNode struct {
	*Service
	bus  pubsub.Bus
	kept *tracetest.InMemoryExporter
}

// newTracedNode returns a service whose broker refuses messages with the header "refused".
func newTracedNode(t testing.TB) *tracedNode {
	t.Helper()
	n := newNode(t, memory.Config{Partitions: 1, Fail: func(_ string, m *watermill.Message) error {
		if m.Metadata.Get(events.CorrelationHeader) == "refused" {
			return errors.New("the disk is full")
		}
		return nil
	}})
	kept := tracetest.NewInMemoryExporter()
	tracer := telemetry.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)))
	n.service.tracer, n.service.tail.traces = tracer, true
	n.service.bus = telemetry.TraceBus(tracer, n.bus)
	return &tracedNode{n.service, n.service.bus, kept}
}

// from returns the trace context of a gateway's span.
func from(number int) *millracev1.TraceContext {
	return &millracev1.TraceContext{Traceparent: fmt.Sprintf("00-%032x-%016x-01", number, number), Tracestate: "vendor=value"}
}

func traced(number int, content, correlation string) *millracev1.SendWSMessageRequest {
	return &millracev1.SendWSMessageRequest{
		Sender: by(1), To: 2, Content: content, ClientMsgId: fmt.Sprint(number), CorrelationId: correlation, Trace: from(number),
	}
}

// headers returns the trace contexts of the records in the log.
func (n *tracedNode) headers(t *testing.T) (all []*millracev1.TraceContext) {
	t.Helper()
	err := n.bus.Log(events.TopicMessages).Read(t.Context(), []events.Range{{Through: 100}}, func(raw pubsub.RawRecord) error {
		all = append(all, telemetry.HeadersContext(raw.Headers.Get))
		return nil
	})
	require.NoError(t, err)
	return all
}

func TestEveryMessageOfABatchIsPublishedInItsOwnTrace(t *testing.T) {
	n := newTracedNode(t)
	untraced := traced(2, "untraced", "")
	untraced.Trace = nil
	results := n.runContained(t.Context(), []*millracev1.SendBatch{
		{Messages: []*millracev1.SendWSMessageRequest{traced(1, "first", "c"), untraced, traced(3, "", "invalid")}},
		{Messages: []*millracev1.SendWSMessageRequest{traced(4, "last", "refused")}},
	})
	require.Zero(t, results[0][0].GetCode())

	var calls, published tracetest.SpanStubs
	for _, s := range n.kept.GetSpans() {
		if s.Name == sendBatches {
			calls = append(calls, s)
		} else {
			published = append(published, s)
		}
	}
	require.Len(t, calls, 3)
	for i, want := range []struct {
		number int
		code   string
		failed bool
	}{{1, "OK", false}, {3, "INVALID_ARGUMENT", false}, {4, "UNAVAILABLE", true}} {
		require.Equal(t, fmt.Sprintf("%016x", want.number), calls[i].Parent.SpanID().String())
		require.Equal(t, trace.SpanKindServer, calls[i].SpanKind)
		require.Contains(t, calls[i].Attributes, attribute.String("rpc.response.status_code", want.code))
		require.Equal(t, want.failed, calls[i].Status.Code == otelcodes.Error)
	}
	require.Len(t, published, 2)
	require.Equal(t, calls[0].SpanContext.SpanID(), published[0].Parent.SpanID())
	require.Equal(t, calls[2].SpanContext.SpanID(), published[1].Parent.SpanID())
	require.Equal(t, otelcodes.Error, published[1].Status.Code)

	headers := n.headers(t)
	require.Len(t, headers, 2)
	require.Nil(t, headers[1], "the record of a message without a trace has no headers of one")
	require.Equal(t, published[0].SpanContext.WithRemote(true),
		trace.SpanContextFromContext(telemetry.WithRemote(context.Background(), headers[0])))
	require.Equal(t, "vendor=value", headers[0].GetTracestate())
}

func TestAChangeIsPublishedInItsTraceAndAGapThatIsReadGoesOnWithIt(t *testing.T) {
	n := newTracedNode(t)
	n.runContained(t.Context(), []*millracev1.SendBatch{{Messages: []*millracev1.SendWSMessageRequest{traced(1, "said", "c")}}})
	n.kept.Reset()
	result := n.runContained(t.Context(), []*millracev1.SendBatch{{Changes: []*millracev1.Change{{
		CorrelationId: "c", Trace: from(2),
		Kind: &millracev1.Change_Recall{Recall: &millracev1.RecallMessageRequest{
			User: 1, Conversation: "u:1:2", MessageId: events.MessageID(1, "u:1:2", "1"),
		}},
	}}}})[0][0]
	require.Zero(t, result.GetCode(), result.GetError())
	spans := n.kept.GetSpans()
	require.Len(t, spans, 2)
	published, call := spans[0], spans[1]
	require.Equal(t, fmt.Sprintf("%016x", 2), call.Parent.SpanID().String())
	require.Equal(t, call.SpanContext.SpanID(), published.Parent.SpanID())

	var want, gap []string
	for _, header := range n.headers(t) {
		want = append(want, header.GetTraceparent())
	}
	require.NoError(t, n.readGap(t.Context(), &millracev1.ReadLogRequest{}, func(span *millracev1.Span) error {
		for _, d := range span.GetDeliveries() {
			gap = append(gap, d.GetTrace().GetTraceparent())
		}
		return nil
	}))
	require.Equal(t, want, gap)
	require.Len(t, gap, 2)
}

func TestSendsWithoutATracerHaveNoTraceAndCostNothingForIt(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.service.runContained(t.Context(), []*millracev1.SendBatch{{Messages: []*millracev1.SendWSMessageRequest{traced(1, "said", "c")}}})
	require.Equal(t, []*millracev1.TraceContext{nil}, (&tracedNode{bus: n.bus}).headers(t))
	requests := direct("a", "b", "c")
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = n.service.startSends(t.Context(), requests) }))
}

package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// recording returns a tracer and where its spans are kept.
func recording(options ...sdktrace.TracerProviderOption) (*telemetry.Tracer, *tracetest.InMemoryExporter) {
	kept := tracetest.NewInMemoryExporter()
	return telemetry.NewTracer(sdktrace.NewTracerProvider(append(options, sdktrace.WithSyncer(kept))...)), kept
}

func TestATraceGoesOnInAnotherProcess(t *testing.T) {
	tracer, _ := recording()
	state, err := trace.ParseTraceState("vendor=value")
	require.NoError(t, err)
	parent := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state,
	})
	_, span := tracer.Start(trace.ContextWithRemoteSpanContext(t.Context(), parent), "here")
	there := trace.SpanContextFromContext(telemetry.WithRemote(t.Context(), telemetry.ContextOf(span)))
	require.True(t, there.IsRemote())
	require.Equal(t, span.SpanContext().WithRemote(true), there)
}

func TestWhatIsNotRecordedIsNamedToNobody(t *testing.T) {
	tracer, _ := recording(sdktrace.WithSampler(sdktrace.NeverSample()))
	_, span := tracer.Start(t.Context(), "unsampled")
	require.Nil(t, telemetry.ContextOf(span))
	require.Nil(t, telemetry.ContextOf(trace.SpanFromContext(t.Context())))
}

func TestATraceContextThatIsNoneIsIgnored(t *testing.T) {
	for _, garbage := range []*millracev1.TraceContext{nil, {}, {Traceparent: "00-1-2-3"}, {Tracestate: "a=b"}} {
		require.Equal(t, t.Context(), telemetry.WithRemote(t.Context(), garbage))
	}
	require.Nil(t, telemetry.HeadersContext(message.Metadata{"tracestate": "a=b"}.Get))
}

// newTraced returns a message in the trace of the span.
func newTraced(ctx context.Context, key string) *message.Message {
	m := message.NewMessage("id", []byte("private words"))
	m.Metadata.Set(pubsub.KeyHeader, key)
	m.Metadata.Set(events.CorrelationHeader, "c")
	telemetry.Carry(ctx, m)
	return m
}

func TestPublishingIsRecordedInTheTraceOfEachMessage(t *testing.T) {
	tracer, kept := recording()
	bus := telemetry.TraceBus(tracer, memory.NewBus(memory.Config{Partitions: 1}))
	one, first := tracer.Start(t.Context(), "first")
	two, second := tracer.Start(t.Context(), "second")
	apart := newTraced(t.Context(), "key")
	messages := []*message.Message{newTraced(one, "key"), apart, newTraced(two, "key")}
	messages[0].Metadata.Set("traceparent", "00-00000000000000000000000000000001-0000000000000002-01") // a copied one
	messages[0].Metadata.Set("tracestate", "copied=1")
	require.NoError(t, bus.Publisher().Publish(events.TopicMessages, messages...))

	require.Equal(t, message.Metadata{pubsub.KeyHeader: "key", events.CorrelationHeader: "c"}, apart.Metadata)
	spans := kept.GetSpans()
	require.Len(t, spans, 2)
	for i, parent := range []trace.Span{first, second} {
		published, m := spans[i], messages[2*i]
		require.Equal(t, "publish message-events", published.Name)
		require.Equal(t, trace.SpanKindProducer, published.SpanKind)
		require.Equal(t, parent.SpanContext().SpanID(), published.Parent.SpanID())
		carried := trace.SpanContextFromContext(telemetry.WithRemote(t.Context(), telemetry.HeadersContext(m.Metadata.Get)))
		require.Equal(t, published.SpanContext.WithRemote(true), carried)
		require.Subset(t, published.Attributes, []attribute.KeyValue{
			attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", "message-events"), attribute.String("messaging.message.id", "id"),
			attribute.String("messaging.kafka.message.key", "key"), attribute.Int("messaging.batch.message_count", 3),
			attribute.String("messaging.destination.partition.id", "0"), attribute.Int("messaging.kafka.offset", 2*i),
			attribute.String("correlation_id", "c"),
		})
		for _, a := range published.Attributes {
			require.NotContains(t, a.Value.String(), "private")
		}
	}
}

func TestWhatTheBrokerHasNotTakenIsAnErrorInItsTrace(t *testing.T) {
	tracer, kept := recording()
	full := errors.New("the disk is full")
	accepted := 0
	bus := telemetry.TraceBus(tracer, memory.NewBus(memory.Config{Fail: func(string, *message.Message) error {
		if accepted++; accepted > 1 {
			return full
		}
		return nil
	}}))
	one, _ := tracer.Start(t.Context(), "first")
	err := bus.Publisher().Publish(events.TopicMessages, newTraced(one, "a"), newTraced(one, "a"))
	var partly *pubsub.PublishError
	require.ErrorAs(t, err, &partly)
	spans := kept.GetSpans()
	require.Equal(t, codes.Unset, spans[0].Status.Code)
	require.Equal(t, codes.Error, spans[1].Status.Code)
	require.Equal(t, "exception", spans[1].Events[0].Name)
}

func TestWithoutATracerNothingIsWrapped(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var off *telemetry.Tracer
	require.Same(t, bus, telemetry.TraceBus(off, bus))
	require.Empty(t, off.ServerOptions())
	require.Empty(t, off.DialOptions())
	m := message.NewMessage("id", nil)
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() { telemetry.Carry(ctx, m) }))
	require.Equal(t, context.Background(), m.Context())
}

func TestLinesThatAreLoggedWithinASpanHaveItsIDs(t *testing.T) {
	tracer, _ := recording()
	var text bytes.Buffer
	log := telemetry.NewLogger(&text, slog.LevelInfo, "json").With("role", "test").WithGroup("group")
	ctx, span := tracer.Start(t.Context(), "here")
	log.InfoContext(ctx, "within")
	require.Contains(t, text.String(), `"trace_id":"`+span.SpanContext().TraceID().String()+`"`)
	require.Contains(t, text.String(), `"span_id":"`+span.SpanContext().SpanID().String()+`"`)
	text.Reset()
	log.InfoContext(t.Context(), "outside")
	require.NotContains(t, text.String(), "trace_id")
}

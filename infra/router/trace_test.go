package router_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
	"millrace/infra/telemetry"
)

// traced returns options with a tracer, and what it records.
func traced() (router.Options, *tracetest.InMemoryExporter) {
	kept := tracetest.NewInMemoryExporter()
	opts := quick()
	opts.Tracer = telemetry.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)))
	return opts, kept
}

// The headers of a trace that began elsewhere.
const (
	parentSpan = "00f067aa0ba902b7"
	parent     = "00-4bf92f3577b34da6a3ce929d0e0e4736-" + parentSpan + "-01"
	secondSpan = "b7ad6b7169203331"
	second     = "00-0af7651916cd43dd8448eb211c80319c-" + secondSpan + "-01"
)

// ended waits until so many spans have ended, and returns them.
func ended(t *testing.T, kept *tracetest.InMemoryExporter, n int) tracetest.SpanStubs {
	t.Helper()
	require.Eventually(t, func() bool { return len(kept.GetSpans()) >= n }, patience, 1e6)
	require.Len(t, kept.GetSpans(), n)
	return kept.GetSpans()
}

func outcome(o router.Outcome) attribute.KeyValue {
	return attribute.String("millrace.outcome", string(o))
}

func TestAHandlerIsASpanOfTheTraceThatTheRecordWasPublishedIn(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	opts, kept := traced()
	var seen journal[trace.SpanContext]
	var named journal[*events.Record]
	run(t, bus, opts, handler(func(ctx context.Context, r events.Record) error {
		seen.add(trace.SpanContextFromContext(ctx))
		named.add(&r)
		return nil
	}))
	at := publishEvent(t, bus, newMessage(2, "traced"), "traceparent", parent, events.CorrelationHeader, "c")

	span := ended(t, kept, 1)[0]
	require.Equal(t, "process message-events", span.Name)
	require.Equal(t, trace.SpanKindConsumer, span.SpanKind)
	require.Equal(t, parentSpan, span.Parent.SpanID().String())
	require.Equal(t, span.SpanContext, seen.all()[0])
	require.Equal(t, telemetry.WithRemote(t.Context(), named.all()[0].Trace),
		trace.ContextWithRemoteSpanContext(t.Context(), span.SpanContext))
	require.Subset(t, span.Attributes, []attribute.KeyValue{
		attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", "message-events"), attribute.String("messaging.consumer.group.name", "test-group"),
		attribute.Int("messaging.kafka.offset", int(events.Offset(at.Seq))), attribute.String("millrace.handler", "test"),
		attribute.String("correlation_id", "c"), outcome(router.Handled),
	})
}

func TestARecordWithoutATraceOrOfOneThatIsNotSampledHasNoSpan(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	opts, kept := traced()
	var seen journal[*events.Record]
	run(t, bus, opts, handler(func(ctx context.Context, r events.Record) error {
		if r.Message.ClientMsgID != "last" && (trace.SpanFromContext(ctx).IsRecording() || r.Trace != nil) {
			t.Error(r.Message.ClientMsgID, "is recorded")
		}
		seen.add(&r)
		return nil
	}))
	publishEvent(t, bus, newMessage(2, "untraced"))
	publishEvent(t, bus, newMessage(2, "garbage"), "tracestate", "a=b")
	publishEvent(t, bus, newMessage(2, "unsampled"), "traceparent", parent[:len(parent)-1]+"0")
	publishEvent(t, bus, newMessage(2, "last"), "traceparent", parent)
	seen.wait(t, 4)
	ended(t, kept, 1)
}

func TestFurtherAttemptsAndTheirErrorsAreEventsOfTheSpan(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	opts, kept := traced()
	attempts := 0
	run(t, bus, opts, handler(func(context.Context, events.Record) error {
		if attempts++; attempts < 3 {
			return errDown
		}
		return nil
	}))
	publishEvent(t, bus, newMessage(2, "late"), "traceparent", parent)
	span := ended(t, kept, 1)[0]
	var names []string
	for _, e := range span.Events {
		names = append(names, e.Name)
	}
	require.Equal(t, []string{"exception", "retry", "exception", "retry"}, names)
	require.Equal(t, codes.Unset, span.Status.Code)
	require.Contains(t, span.Attributes, outcome(router.Handled))
}

func TestAPoisonedRecordIsAnErrorInItsTraceWhichGoesOnInThePoisonQueue(t *testing.T) {
	opts, kept := traced()
	bus := telemetry.TraceBus(opts.Tracer, memory.NewBus(memory.Config{}))
	var log logged
	r, err := router.New(bus, []events.Handler{handler(func(context.Context, events.Record) error {
		return events.Permanent(errDown)
	})}, opts, slog.New(slog.NewJSONHandler(&log, nil)))
	require.NoError(t, err)
	running := make(chan error, 1)
	go func() { running <- r.Run(context.Background()) }()
	<-r.Running()
	publishEvent(t, bus, newMessage(2, "poison"), "traceparent", parent, "tracestate", "vendor=value")

	poisoned := poisonQueue(t, bus, 1)[0]
	require.NoError(t, r.Close())
	require.NoError(t, <-running)
	spans := ended(t, kept, 2)
	published, process := spans[0], spans[1]
	require.Equal(t, codes.Error, process.Status.Code)
	require.Contains(t, process.Attributes, outcome(router.Poisoned))
	require.Equal(t, "publish message-events.poison", published.Name)
	require.Equal(t, process.SpanContext.SpanID(), published.Parent.SpanID())
	require.Equal(t, "00-"+published.SpanContext.TraceID().String()+"-"+published.SpanContext.SpanID().String()+"-01",
		poisoned.Metadata.Get("traceparent"))
	require.Equal(t, "vendor=value", poisoned.Metadata.Get("tracestate"))
}

func TestEveryRecordOfABatchHasASpanInItsTraceAndTheBatchLinksThem(t *testing.T) {
	for name, test := range map[string]struct {
		headers []string // of three records
		batch   bool     // whether the batch has a span of its own
	}{
		"of several traces": {[]string{parent, "", second}, true},
		"of one trace":      {[]string{"", second, ""}, false},
		"of none":           {[]string{"", "", ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{Partitions: 1})
			opts, kept := traced()
			for i, header := range test.headers {
				var headers []string
				if header != "" {
					headers = []string{"traceparent", header}
				}
				publishEvent(t, bus, newMessage(2, string(rune('a'+i))), headers...)
			}
			var within journal[trace.SpanContext]
			var records journal[events.Record]
			h := handler(func(context.Context, events.Record) error { return nil })
			h.HandleBatch = func(ctx context.Context, all []events.Record) []error {
				within.add(trace.SpanContextFromContext(ctx))
				for _, r := range all {
					records.add(r)
				}
				return make([]error, len(all))
			}
			stop := run(t, bus, opts, h)
			records.wait(t, 3)
			stop()

			spans := kept.GetSpans()
			for i, header := range test.headers {
				if header == "" {
					require.Nil(t, records.all()[i].Trace)
					continue
				}
				own := trace.SpanContextFromContext(telemetry.WithRemote(t.Context(), records.all()[i].Trace))
				at := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool { return s.SpanContext.SpanID() == own.SpanID() })
				require.Equal(t, header[3:35], own.TraceID().String())
				require.Equal(t, header[36:52], spans[at].Parent.SpanID().String())
				require.Contains(t, spans[at].Attributes, outcome(router.Handled))
				if !test.batch {
					require.Equal(t, own.SpanID(), within.all()[0].SpanID())
				}
			}
			if !test.batch {
				require.False(t, slices.ContainsFunc(spans, func(s tracetest.SpanStub) bool { return s.Name == "process batch message-events" }))
				return
			}
			batch := spans[len(spans)-1]
			require.Equal(t, "process batch message-events", batch.Name)
			require.Equal(t, within.all()[0], batch.SpanContext)
			require.Equal(t, spans[0].SpanContext.SpanID(), batch.Parent.SpanID())
			require.Equal(t, spans[1].SpanContext, batch.Links[0].SpanContext)
			require.Contains(t, batch.Attributes, attribute.Int("messaging.batch.message_count", 3))
		})
	}
}

func TestARecordThatFailsInABatchHasASpanForEachTry(t *testing.T) {
	for name, batch := range map[string]func([]events.Record) []error{
		"fails":          func([]events.Record) []error { return []error{errDown, nil} },
		"panics":         func([]events.Record) []error { panic("at the disco") },
		"returns little": func([]events.Record) []error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{Partitions: 1})
			opts, kept := traced()
			publishEvent(t, bus, newMessage(2, "a"), "traceparent", parent)
			publishEvent(t, bus, newMessage(2, "b"))
			var alone journal[string]
			h := handler(func(_ context.Context, r events.Record) error {
				alone.add(r.Message.ClientMsgID)
				return nil
			})
			h.HandleBatch = func(_ context.Context, all []events.Record) []error { return batch(all) }
			stop := run(t, bus, opts, h)
			alone.wait(t, 1)
			stop()
			spans := kept.GetSpans()
			require.Len(t, spans, 2)
			require.Contains(t, spans[0].Attributes, outcome(router.Failed))
			require.Equal(t, codes.Error, spans[0].Status.Code)
			require.Contains(t, spans[1].Attributes, outcome(router.Handled))
			require.Equal(t, spans[0].Parent.SpanID(), spans[1].Parent.SpanID())
		})
	}
}

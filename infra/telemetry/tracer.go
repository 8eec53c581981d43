package telemetry

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	millracev1 "millrace/proto/millrace/v1"
)

// Scope is the name of the instrumentation that all spans of Millrace itself have.
const Scope = "millrace"

// Tracer starts the spans of traces. It is nil where no traces are recorded: whoever would start a span, or look for the
// context of one, asks for that first, so that traces cost nothing then.
type Tracer struct {
	trace.Tracer
	Provider trace.TracerProvider
}

// NewTracer returns a tracer that records with the provider.
func NewTracer(provider trace.TracerProvider) *Tracer {
	return &Tracer{Tracer: provider.Tracer(Scope), Provider: provider}
}

// The headers of W3C Trace Context.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// ContextOf returns what another process has to know of the span to go on with its trace, or nil unless the span is recorded.
func ContextOf(span trace.Span) *millracev1.TraceContext {
	if !span.SpanContext().IsSampled() {
		return nil
	}
	c := &millracev1.TraceContext{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpan(context.Background(), span), contextCarrier{c})
	return c
}

// WithRemote returns a context in which spans are children of the span of another process. If that is nil or malformed, it
// returns ctx.
func WithRemote(ctx context.Context, c *millracev1.TraceContext) context.Context {
	if c == nil {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, contextCarrier{c})
}

// Traced reports whether the headers hold a trace context, which costs less than to get it.
func Traced(headers interface{ Get(name string) string }) bool { return headers.Get(traceparent) != "" }

// HeadersContext returns the trace context that the headers hold, or nil if they hold none. The argument is how to get a
// header; a missing one is empty.
func HeadersContext(get func(name string) string) *millracev1.TraceContext {
	parent := get(traceparent)
	if parent == "" {
		return nil
	}
	return &millracev1.TraceContext{Traceparent: parent, Tracestate: get(tracestate)}
}

// Carry gives a message that is to be published the span of the context, if that is recorded. The message then belongs to its
// trace. It gets nothing else of the context.
func Carry(ctx context.Context, m *message.Message) {
	if span := trace.SpanFromContext(ctx); span.SpanContext().IsSampled() {
		m.SetContext(trace.ContextWithSpan(context.Background(), span))
	}
}

// inject writes the span's context into the metadata of a record, in place of any that is there.
func inject(ctx context.Context, into message.Metadata) {
	delete(into, tracestate)
	propagation.TraceContext{}.Inject(ctx, propagation.MapCarrier(into))
}

type contextCarrier struct{ of *millracev1.TraceContext }

var _ propagation.TextMapCarrier = contextCarrier{}

func (c contextCarrier) Get(name string) string {
	switch name {
	case traceparent:
		return c.of.GetTraceparent()
	case tracestate:
		return c.of.GetTracestate()
	}
	return ""
}

func (c contextCarrier) Set(name, value string) {
	switch name {
	case traceparent:
		c.of.Traceparent = value
	case tracestate:
		c.of.Tracestate = value
	}
}

func (contextCarrier) Keys() []string { return []string{traceparent, tracestate} }

package storage

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// startCommit returns a context with a span for the saving of the jobs: a child of the span of the first job that has one,
// with links to those of the others. If none has one, it returns the background context and nil.
func startCommit(jobs []*job, records int) (context.Context, trace.Span) {
	var first trace.Span
	var links []trace.Link
	for _, j := range jobs {
		span := trace.SpanFromContext(j.ctx)
		switch {
		case !span.IsRecording():
		case first == nil:
			first = span
		default:
			links = append(links, trace.Link{SpanContext: span.SpanContext()})
		}
	}
	if first == nil {
		return context.Background(), nil
	}
	return first.TracerProvider().Tracer("millrace").Start(trace.ContextWithSpan(context.Background(), first), "commit",
		trace.WithLinks(links...), trace.WithAttributes(semconv.DBOperationBatchSize(records)))
}

// endCommit ends the span, if there is one.
func endCommit(span trace.Span, results []error) {
	if span == nil {
		return
	}
	for _, err := range results {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, "not everything was saved")
			break
		}
	}
	span.End()
}

// Package telemetry shows a process to the outside: its log, its metrics, its traces and its admin server.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// NewLogger returns a logger that writes records of at least the level to w, as text or, with format "json", as JSON lines.
// A record that is logged within a span of a trace that is recorded has the ids of both.
func NewLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(tracedLog{slog.NewJSONHandler(w, options)})
	}
	return slog.New(tracedLog{slog.NewTextHandler(w, options)})
}

// tracedLog adds the ids of the context's span.
type tracedLog struct{ slog.Handler }

func (l tracedLog) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return l.Handler.Handle(ctx, r)
}

func (l tracedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tracedLog{l.Handler.WithAttrs(attrs)}
}

func (l tracedLog) WithGroup(name string) slog.Handler { return tracedLog{l.Handler.WithGroup(name)} }

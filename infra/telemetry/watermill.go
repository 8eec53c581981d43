package telemetry

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill"
)

// Watermill writes what Watermill logs into our log: errors as errors, everything else at debug level. It drops traces, of
// which there are several for each message, before they cost anything.
type Watermill struct{ Log *slog.Logger }

var _ watermill.LoggerAdapter = Watermill{}

// Error implements watermill.LoggerAdapter. A cancellation is a normal end and is logged at debug level.
func (w Watermill) Error(msg string, err error, fields watermill.LogFields) {
	level := slog.LevelError
	if errors.Is(err, context.Canceled) {
		level = slog.LevelDebug
	}
	w.write(level, msg, fields.Add(watermill.LogFields{"error": err}))
}

// Info implements watermill.LoggerAdapter.
func (w Watermill) Info(msg string, fields watermill.LogFields) {
	w.write(slog.LevelDebug, msg, fields)
}

// Debug implements watermill.LoggerAdapter.
func (w Watermill) Debug(msg string, fields watermill.LogFields) {
	w.write(slog.LevelDebug, msg, fields)
}

// Trace implements watermill.LoggerAdapter.
func (Watermill) Trace(string, watermill.LogFields) {}

// With implements watermill.LoggerAdapter.
func (w Watermill) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return Watermill{slog.New(w.Log.Handler().WithAttrs(attrs(fields)))}
}

func (w Watermill) write(level slog.Level, msg string, fields watermill.LogFields) {
	if ctx := context.Background(); w.Log.Enabled(ctx, level) {
		w.Log.LogAttrs(ctx, level, msg, attrs(fields)...) //nolint:sloglint // the message is Watermill's
	}
}

func attrs(fields watermill.LogFields) []slog.Attr {
	all := make([]slog.Attr, 0, len(fields))
	for name, value := range fields {
		all = append(all, slog.Any(name, value))
	}
	return all
}

// Package telemetry is how a process is seen from outside: its log and its admin server.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger writes records of at least the level to w, as text or, with format "json", as JSON lines.
func NewLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// Package telemetry shows a process to the outside: its log, its metrics and its admin server.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes records of at least the level to w, as text or, with format "json", as JSON lines.
func NewLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

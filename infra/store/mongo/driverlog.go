package mongo

import (
	"context"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// driverLog takes what the driver logs if the environment variables MONGODB_LOG_* ask for it. Without it the driver writes to
// standard error in a form of its own.
type driverLog struct{}

var _ options.LogSink = driverLog{}

// Info implements [options.LogSink]. Level 0 is what the driver calls informational, and all above it is for debugging.
func (driverLog) Info(level int, msg string, attrs ...any) {
	if level > 0 {
		driverLine(slog.LevelDebug, msg, attrs)
		return
	}
	driverLine(slog.LevelInfo, msg, attrs)
}

// Error implements [options.LogSink].
func (driverLog) Error(err error, msg string, attrs ...any) {
	driverLine(slog.LevelWarn, msg, append(attrs, "error", err))
}

func driverLine(level slog.Level, msg string, attrs []any) {
	slog.Default().With("library", "mongo").Log(context.Background(), level, msg, attrs...) //nolint:sloglint // all of it is the driver's
}

package example

import (
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Slow returns a stage that logs which records take a handler so long.
func Slow(limit time.Duration, log *slog.Logger) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			begin := time.Now()
			produced, err := next(msg)
			if took := time.Since(begin); took >= limit {
				log.Warn("slow record", "handler", message.HandlerNameFromCtx(msg.Context()), "took", took, "error", err)
			}
			return produced, err
		}
	}
}

package connect

import (
	"log/slog"
	"strconv"

	"millrace/events"
)

// correlation returns the id that everything caused by the client's request carries: gRPC calls, records and log lines. It
// begins with the session's id.
func (s *session) correlation(request int64) string {
	return s.id + "-" + strconv.FormatInt(request, 10)
}

// logAnswer logs how a request to a message node has ended.
func (s *session) logAnswer(request int64, verb string, refused *refusal) {
	if !s.log.Enabled(s.ctx, slog.LevelDebug) {
		return
	}
	result := "ok"
	if refused != nil {
		result = refused.Code
	}
	s.log.LogAttrs(s.ctx, slog.LevelDebug, "request answered", slog.String("verb", verb), slog.String("result", result),
		slog.Int64("user", s.identity.User), slog.String(events.CorrelationHeader, s.correlation(request)))
}

package connect

import (
	"log/slog"
	"strconv"

	"go.opentelemetry.io/otel/trace"

	"millrace/events"
)

// correlation returns the id that everything caused by the client's request carries: gRPC calls, records and log lines. It
// begins with the session's id.
func (s *session) correlation(request int64) string {
	id := make([]byte, 0, 64)
	return string(strconv.AppendInt(append(append(id, s.id...), '-'), request, 10))
}

// logAnswer logs how a request to a message node has ended. The span may be nil.
func (s *session) logAnswer(span trace.Span, request int64, verb string, refused *refusal) {
	if !s.log.Enabled(s.ctx, slog.LevelDebug) {
		return
	}
	ctx := s.ctx
	if span != nil {
		ctx = trace.ContextWithSpan(ctx, span)
	}
	result := "ok"
	if refused != nil {
		result = refused.Code
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "request answered", slog.String("verb", verb), slog.String("result", result),
		slog.Int64("user", s.identity.User), slog.String(events.CorrelationHeader, s.correlation(request)))
}

package api

import (
	"context"
	"net/http"

	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"millrace/infra/telemetry"
)

// recorded returns the interceptor with a span for each call. Without a tracer it returns the interceptor as it is.
func recorded(t *telemetry.Tracer, inner grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if t == nil {
		return inner
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		method := info.FullMethod[1:]
		ctx, span := t.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(semconv.RPCSystemNameGRPC, semconv.RPCMethod(method)))
		defer span.End()
		response, err := inner(ctx, req, info, next)
		code := status.Code(err)
		span.SetAttributes(semconv.RPCResponseStatusCode(telemetry.CodeName(code)))
		if telemetry.ServerFault(code) {
			span.SetStatus(otelcodes.Error, status.Convert(err).Message())
		}
		return response, err
	}
}

// joinTraces makes the requests whose headers name a trace part of it. Without a tracer it returns the handler as it is.
func joinTraces(t *telemetry.Tracer, inner http.Handler) http.Handler {
	if t == nil {
		return inner
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := telemetry.WithRemote(r.Context(), telemetry.HeadersContext(r.Header.Get))
		inner.ServeHTTP(w, r.WithContext(ctx))
	})
}

package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"millrace/infra/auth"
	"millrace/infra/panics"
	"millrace/infra/security"
	"millrace/infra/telemetry"
	apiv1 "millrace/proto/millrace/api/v1"
)

// maxRequest bounds the body of an HTTP request. The largest is a message of 32 KiB whose every character is escaped.
const maxRequest = 256 << 10

// Config says who may call.
type Config struct {
	Keys auth.APIKeys
	// Open is the key of requests that carry none; nil: they are refused.
	Open *auth.APIKey
	// Rate is how many requests a key may make in a second.
	Rate int
	// Origins are those, beside the API's own, whose pages may call.
	Origins []string
	// Console is served at /console/; nil: nothing is.
	Console http.Handler
	// Publisher takes the records of calls by keys that permit everything.
	Publisher message.Publisher
	Log       *slog.Logger
	Panics    *panics.Panics
	// Tracer records calls, in the trace that the caller names if it does. Nil records nothing.
	Tracer *telemetry.Tracer
}

// New returns the API as a handler, of HTTP/1.1 and of HTTP/2 with and without TLS. Requests that would go on for ever end with
// the context.
func New(ctx context.Context, cfg Config, service *Service, operator *Operator) (http.Handler, error) {
	operations := newOperations(cfg.Publisher, cfg.Log)
	authorized := authorize(scopes(), operations, cfg.Log)
	recovered := recovery.UnaryServerInterceptor(recovery.WithRecoveryHandler(func(v any) error {
		_ = cfg.Panics.Recovered(panics.Call, v) // Panics counts and logs it; the caller need not know more
		return status.Error(codes.Internal, "internal error")
	}))
	intercept := recorded(cfg.Tracer, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return authorized(ctx, req, info, func(ctx context.Context, req any) (any, error) { return recovered(ctx, req, info, next) })
	})
	calls := grpc.NewServer(grpc.UnaryInterceptor(intercept), grpc.MaxRecvMsgSize(maxRequest))
	apiv1.RegisterApiServiceServer(calls, service)
	apiv1.RegisterOperatorServiceServer(calls, operator)

	gateway := runtime.NewServeMux(
		runtime.WithErrorHandler(refuseCall),
		runtime.WithRoutingErrorHandler(refusePath),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: false},
			UnmarshalOptions: protojson.UnmarshalOptions{},
		}),
	)
	within := inProcess{intercept: intercept, services: map[*grpc.ServiceDesc]any{
		&apiv1.ApiService_ServiceDesc: service, &apiv1.OperatorService_ServiceDesc: operator,
	}}
	err := errors.Join(
		apiv1.RegisterApiServiceHandlerClient(ctx, gateway, apiv1.NewApiServiceClient(within)),
		apiv1.RegisterOperatorServiceHandlerClient(ctx, gateway, apiv1.NewOperatorServiceClient(within)),
	)
	if err != nil {
		return nil, err
	}
	requests := http.NewServeMux()
	requests.Handle("GET /v1/events", newTail(ctx, operator.Bus, operations, cfg.Log))
	requests.Handle("GET /v1/users/{user}/export", newExports(ctx, service, operations, cfg.Log))
	requests.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if isGRPC(r) {
			calls.ServeHTTP(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		gateway.ServeHTTP(w, r)
	})
	gate := newGate(joinTraces(cfg.Tracer, requests), cfg.Keys, cfg.Open, cfg.Rate, cfg.Log)
	mux := http.NewServeMux()
	mux.Handle("/v1/", gate)
	for desc := range within.services {
		mux.Handle("/"+desc.ServiceName+"/", gate)
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(apiv1.OpenAPI()) // the client may have gone
	})
	if cfg.Console != nil {
		mux.Handle("GET /console/", cfg.Console)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { refuse(w, r, codes.NotFound, "no such path") })
	return secured(allowOrigins(mux, cfg.Origins)), nil
}

// secured tells browsers to make nothing else of responses than what they are, and by TLS to come by TLS only from then on, and
// to keep none of them. The console sets a policy of its own.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// allowOrigins refuses requests of pages from elsewhere, and tells browsers which they may make (CORS). A browser asks before
// it makes one that carries a key, but not before all others.
func allowOrigins(next http.Handler, origins []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		named := r.Header.Get("Origin")
		if named == "" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Add("Vary", "Origin")
		if !security.MayCall(r, origins) {
			refuse(w, r, codes.PermissionDenied, "pages of this origin may not call")
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", named)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			w.Header().Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

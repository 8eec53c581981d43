package auth

import (
	"context"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	metadataKey = "authorization"
	bearer      = "Bearer "
	// healthMethods need no token, so that probes need no secret. They only tell whether the node serves.
	healthMethods = "/grpc.health.v1.Health/"
)

// ServiceToken is the secret that every internal gRPC call carries. If it is empty, calls carry no token and servers require
// none.
type ServiceToken string

// ServerOptions make a server refuse calls without the token, except health checks.
func (t ServiceToken) ServerOptions() []grpc.ServerOption {
	if t == "" {
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := t.check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := t.check(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return next(srv, stream)
		}),
	}
}

func (t ServiceToken) check(ctx context.Context, method string) error {
	if strings.HasPrefix(method, healthMethods) {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get(metadataKey) {
		got, ok := strings.CutPrefix(value, bearer)
		if ok && subtle.ConstantTimeCompare([]byte(got), []byte(t)) == 1 {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "missing or wrong service token")
}

// DialOptions make a client send the token.
func (t ServiceToken) DialOptions() []grpc.DialOption {
	if t == "" {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(t)}
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t ServiceToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{metadataKey: bearer + string(t)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. It returns false because nodes talk within a private
// network, often without TLS of their own.
func (t ServiceToken) RequireTransportSecurity() bool { return false }

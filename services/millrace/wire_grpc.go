package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"millrace/infra/auth"
	"millrace/infra/config"
	"millrace/infra/panics"
	"millrace/infra/telemetry"
)

const (
	// A peer that is dead, or only half connected, is noticed within keepaliveTime + keepaliveTimeout.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// The longest pause between attempts to reach a node that went away.
	firstRedial   = 50 * time.Millisecond
	slowestRedial = time.Second
	// maxFrame bounds one gRPC message, which may be a frame of batches from all connections of a gateway.
	maxFrame = 32 << 20
	// window lets a busy stream carry many frames before it has to wait for the other end.
	window = 4 << 20
	// drainTimeout bounds how long calls under way may take when the server stops.
	drainTimeout = 5 * time.Second
)

// grpcService is one service to serve.
type grpcService struct {
	register func(grpc.ServiceRegistrar)
	// endStreams ends those streams of the service that would go on for ever. It is nil if there are none.
	endStreams func(context.Context) error
}

func asGRPCService(constructor any) any {
	return fx.Annotate(constructor, fx.ResultTags(`group:"grpc"`))
}

// grpcServer serves the services of the process, with health and reflection.
type grpcServer struct {
	listener net.Listener
	server   *grpc.Server
	health   *health.Server
	services []grpcService
}

func newGRPCServer(
	ctx context.Context, cfg *config.Config, tls serviceTLS, services []grpcService, metrics prometheus.Registerer, contain *panics.Panics,
	tracer *telemetry.Tracer,
) (*grpcServer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.MessageAddr)
	if err != nil {
		return nil, fmt.Errorf("gRPC server: %w", err)
	}
	s := &grpcServer{listener: listener, health: health.NewServer(), services: services}
	calls := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(
		grpcprom.WithHistogramBuckets(telemetry.LatencyBuckets()),
	))
	metrics.MustRegister(calls)
	recovered := recovery.WithRecoveryHandler(func(v any) error {
		_ = contain.Recovered(panics.Call, v) // Panics counts and logs it; the caller need not know more
		return status.Error(codes.Internal, "internal error")
	})
	s.server = grpc.NewServer(append(append(auth.ServiceToken(cfg.ServiceToken).ServerOptions(), tracer.ServerOptions()...),
		grpc.Creds(tls.serverCredentials()),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(calls.UnaryServerInterceptor(), recovery.UnaryServerInterceptor(recovered)),
		grpc.ChainStreamInterceptor(calls.StreamServerInterceptor(), recovery.StreamServerInterceptor(recovered)),
		grpc.MaxRecvMsgSize(maxFrame),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
	)...)
	healthv1.RegisterHealthServer(s.server, s.health)
	reflection.Register(s.server)
	for _, service := range services {
		service.register(s.server)
	}
	calls.InitializeMetrics(s.server)
	return s, nil
}

// Addr returns the address at which the server listens.
func (s *grpcServer) Addr() string { return s.listener.Addr().String() }

func (s *grpcServer) run(context.Context) error { return s.server.Serve(s.listener) }

// stop lets calls under way finish, within drainTimeout.
func (s *grpcServer) stop(ctx context.Context) error {
	s.health.Shutdown()
	force := time.AfterFunc(drainTimeout, s.server.Stop)
	defer force.Stop()
	var err error
	for _, service := range s.services {
		if service.endStreams != nil {
			err = errors.Join(err, service.endStreams(ctx))
		}
	}
	s.server.GracefulStop()
	return err
}

// serveGRPC serves every grpcService of the process.
func serveGRPC() fx.Option {
	return fx.Module("grpc",
		fx.Provide(fx.Annotate(newGRPCServer, fx.ParamTags(``, ``, ``, `group:"grpc"`))),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, at *addresses, s *grpcServer) {
			at.set(partGRPC, s.Addr())
			runs(lc, shutdown, log, "grpc", s.run, s.stop)
		}),
	)
}

// dialOptions are the options of every connection between nodes.
func dialOptions(cfg *config.Config, tls serviceTLS) []grpc.DialOption {
	return append(auth.ServiceToken(cfg.ServiceToken).DialOptions(),
		grpc.WithTransportCredentials(tls.dialCredentials()),
		grpc.WithNoProxy(), // one that the environment names would be given the service token
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRedial, Multiplier: 1.6, Jitter: 0.2, MaxDelay: slowestRedial},
			MinConnectTimeout: slowestRedial,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFrame)),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
	)
}

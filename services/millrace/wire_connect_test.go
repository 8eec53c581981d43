package main

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"millrace/infra/config"
)

func TestANodeIsDialedByItsAddressUnderItsName(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var authority []string
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			authority = metadata.ValueFromIncomingContext(ctx, ":authority")
			return handler(ctx, request)
		}))
	healthv1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	conn, err := nodesAt(&config.Config{}, serviceTLS{}, nil).Dial("message.example:9090", listener.Addr().String())
	require.NoError(t, err)
	_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, []string{"message.example:9090"}, authority)
	require.NoError(t, conn.Close())
	server.Stop()
	require.NoError(t, <-served)
}

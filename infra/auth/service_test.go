package auth

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServiceTokenIsAskedForInEveryCallButHealth(t *testing.T) {
	address := serve(t, ServiceToken("s3cret"))
	for _, test := range []struct {
		name  string
		token ServiceToken
		code  codes.Code
	}{
		{"right", "s3cret", codes.OK},
		{"wrong", "s3cret2", codes.Unauthenticated},
		{"none", "", codes.Unauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := dial(t, address, test.token)
			require.Equal(t, test.code, status.Code(listServices(t, conn)))
			_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
			require.NoError(t, err)
		})
	}
}

func TestWithoutServiceTokenNoneIsAskedFor(t *testing.T) {
	require.NoError(t, listServices(t, dial(t, serve(t, ""), "")))
}

func serve(t *testing.T, token ServiceToken) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(token.ServerOptions()...)
	healthv1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return listener.Addr().String()
}

func dial(t *testing.T, address string, token ServiceToken) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, append(token.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func listServices(t *testing.T, conn *grpc.ClientConn) error {
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	err = stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	})
	if !errors.Is(err, io.EOF) { // the call was refused before: Recv returns the reason
		require.NoError(t, err)
	}
	_, err = stream.Recv()
	return err
}

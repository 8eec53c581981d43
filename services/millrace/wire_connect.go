package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"google.golang.org/grpc"

	"millrace/infra/auth"
	"millrace/infra/config"
	"millrace/infra/panics"
	"millrace/infra/security"
	"millrace/infra/telemetry"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
	"millrace/services/web/chat"
	"millrace/services/web/sdk"
)

const (
	// handshakeTimeout bounds the TLS handshake, and for other nodes TLS and HTTP/2 together. After that a client has as long
	// again to send the request for its WebSocket, with any body, and to read the response.
	handshakeTimeout = 10 * time.Second
	// maxHandshakeBytes bounds the header of that request.
	maxHandshakeBytes = 16 << 10
)

// gatewayServer serves the gateway at /ws, the SDK for browsers at /sdk/ and, if it is set to, the chat page at /chat/.
type gatewayServer struct {
	gateway  *connect.Gateway
	tls      connectTLS
	listener net.Listener
	server   *http.Server
}

type gatewayParams struct {
	fx.In

	Context  context.Context
	Config   *config.Config
	Verifier connect.Verifier
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Panics   *panics.Panics
	TLS      connectTLS
	NodesTLS serviceTLS
	Tracer   *telemetry.Tracer
	// Local exists in a process that also serves the nodes itself.
	Local *grpcServer `optional:"true"`
}

func newGatewayServer(p gatewayParams) (*gatewayServer, error) {
	messageAddrs, pushAddrs := p.Config.MessageAddrs, p.Config.PushAddrs
	if p.Local != nil {
		messageAddrs, pushAddrs = []string{p.Local.Addr()}, []string{p.Local.Addr()}
	}
	bound, err := connectionBound(p.Config.MaxConnections)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	plain, err := new(net.ListenConfig).Listen(p.Context, "tcp", p.Config.ConnectAddr)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	listener := newBoundedListener(plain, bound, p.Metrics, p.Log)
	p.Log.Info("the gateway bounds its connections", "most", bound)
	name, err := os.Hostname()
	if err != nil {
		name = "gateway"
	}
	s := &gatewayServer{
		listener: listener, tls: p.TLS,
		gateway: connect.New(connect.Config{
			Name: name + "/" + listener.Addr().String(), AllowedOrigins: p.Config.AllowedOrigins, SendRate: p.Config.SendRate,
			UserConnections: p.Config.UserConnections, Metrics: p.Metrics, Panics: p.Panics, Tracer: p.Tracer,
		}, p.Verifier, nodesAt(p.Config, p.NodesTLS, messageAddrs, p.Tracer.DialOptions()...),
			nodesAt(p.Config, p.NodesTLS, pushAddrs, p.Tracer.DialOptions()...), p.Log),
	}
	mux := http.NewServeMux()
	mux.Handle("GET /ws", s.gateway)
	mux.Handle("GET /sdk/", sdk.Handler())
	if p.Config.ChatPage {
		mux.Handle("GET /chat/", chat.Handler())
	}
	if p.Config.Role == config.Dev && p.Config.JWTSecret != "" {
		mux.Handle("POST /dev/token", serveDevToken(p.Config.JWTSecret, p.Config.AllowedOrigins))
	}
	var handler http.Handler = mux
	if p.Config.Role == config.Dev {
		handler = security.OnlyLocalHosts(mux, p.Config.AllowsHost)
	}
	s.server = &http.Server{
		Handler: listener.handler(handler), ReadTimeout: handshakeTimeout, WriteTimeout: 2 * handshakeTimeout, MaxHeaderBytes: maxHandshakeBytes,
		ErrorLog: telemetry.ServerErrors(p.Log),
	}
	// A client that has its response is done; a connection that is to stay becomes a WebSocket.
	s.server.SetKeepAlivesEnabled(false)
	return s, nil
}

// Addr returns the address at which WebSockets are accepted.
func (s *gatewayServer) Addr() string { return s.listener.Addr().String() }

func (s *gatewayServer) run(ctx context.Context) error {
	served := make(chan error, 1)
	listener := s.listener
	if s.tls.WatchedTLS != nil { // inside the bounded listener, so that handshakes count
		listener = tls.NewListener(listener, s.tls.Server("http/1.1"))
	}
	go func() { served <- s.server.Serve(listener) }()
	err := s.gateway.Run(ctx)
	if closed := <-served; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	return err
}

// stop accepts no new connections, and closes the others once they have their responses.
func (s *gatewayServer) stop(ctx context.Context) error {
	s.gateway.Drain(ctx)
	return s.server.Shutdown(ctx)
}

func newVerifier(ctx context.Context, cfg *config.Config, log *slog.Logger) (*auth.Verifier, error) {
	if cfg.JWKSURL != "" {
		return auth.NewJWKSVerifier(ctx, cfg.JWKSURL, log)
	}
	return auth.NewSecretVerifier(cfg.JWTSecret), nil
}

// nodesAt returns a lister of the nodes that the names (host:port each) resolve to. With TLS they must show a certificate for
// the host of their name.
func nodesAt(cfg *config.Config, tls serviceTLS, names []string, more ...grpc.DialOption) *cluster.Lister {
	options := append(dialOptions(cfg, tls), more...)
	return &cluster.Lister{Names: names, Resolver: net.DefaultResolver, Dial: func(name, address string) (cluster.Conn, error) {
		return grpc.NewClient("passthrough:///"+address, append(slices.Clip(options), grpc.WithAuthority(cluster.WithHost(name)))...)
	}}
}

// gateway serves WebSockets.
func gateway() fx.Option {
	return fx.Module("gateway",
		fx.Provide(fx.Annotate(newVerifier, fx.As(fx.Self()), fx.As(new(connect.Verifier))), newGatewayServer, asCheck(func(v *auth.Verifier) telemetry.Check {
			return telemetry.Check{Name: "key set", Ready: v.Ready}
		}), asCheck(func(s *gatewayServer) telemetry.Check {
			return telemetry.Check{Name: "gateway", Ready: s.gateway.Ready}
		})),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, at *addresses, s *gatewayServer) {
			at.set(partGateway, s.Addr())
			runs(lc, shutdown, log, "gateway", s.run, s.stop)
		}),
	)
}

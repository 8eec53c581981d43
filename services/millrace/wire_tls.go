package main

import (
	"context"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"millrace/infra/config"
	"millrace/infra/security"
)

// serviceTLS holds the files for connections between nodes, connectTLS those for WebSockets. Without files they are empty,
// and the connections use no TLS.
type (
	serviceTLS struct{ *security.WatchedTLS }
	connectTLS struct{ *security.WatchedTLS }
)

// watchedTLS makes the TLS files be read again when they change and on SIGHUP, and logs where there are none but should be.
func watchedTLS() fx.Option {
	return fx.Module("tls",
		fx.Provide(
			func(cfg *config.Config, metrics prometheus.Registerer, log *slog.Logger) (s serviceTLS, c connectTLS, err error) {
				if cfg.ServiceTLS {
					if s.WatchedTLS, err = security.WatchTLS(cfg.ServiceTLSFiles, "service", metrics, log); err != nil {
						return s, c, err
					}
				}
				if cfg.ConnectTLS.Named() {
					c.WatchedTLS, err = security.WatchTLS(cfg.ConnectTLS, "connect", metrics, log)
				}
				return s, c, err
			},
			asReloads(func(s serviceTLS, c connectTLS) (reloads []reload) {
				for part, w := range watched(s, c) {
					reloads = append(reloads, reload{part, w.Reload})
				}
				return reloads
			}),
		),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, cfg *config.Config, log *slog.Logger, s serviceTLS, c connectTLS) {
			for _, where := range cfg.OpenTokens() {
				log.Warn("a token crosses a network without TLS", "where", where)
			}
			for part, w := range watched(s, c) {
				runs(lc, shutdown, log, part, w.Run, nil)
			}
		}),
	)
}

// watched returns the sets of files that there are.
func watched(s serviceTLS, c connectTLS) map[string]*security.WatchedTLS {
	all := map[string]*security.WatchedTLS{}
	if s.WatchedTLS != nil {
		all["TLS between nodes"] = s.WatchedTLS
	}
	if c.WatchedTLS != nil {
		all["TLS of WebSockets"] = c.WatchedTLS
	}
	return all
}

// serverCredentials returns the credentials of the gRPC server.
func (s serviceTLS) serverCredentials() credentials.TransportCredentials {
	if s.WatchedTLS == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(s.Server())
}

// dialCredentials returns the credentials of connections to nodes.
func (s serviceTLS) dialCredentials() credentials.TransportCredentials {
	if s.WatchedTLS == nil {
		return insecure.NewCredentials()
	}
	return dialTLS{TransportCredentials: credentials.NewTLS(s.Client()), files: s.WatchedTLS}
}

// dialTLS uses in every handshake what the files contain then.
type dialTLS struct {
	credentials.TransportCredentials // as they were at first; asked only for what does not depend on the files
	files                            *security.WatchedTLS
}

func (d dialTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(d.files.Client()).ClientHandshake(ctx, authority, conn)
}

func (d dialTLS) Clone() credentials.TransportCredentials { return d }

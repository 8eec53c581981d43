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

// serviceTLS holds the files for connections between nodes, connectTLS those for WebSockets, and apiTLS those for the API.
// Without files they are empty, and the connections use no TLS.
type (
	serviceTLS struct{ *security.WatchedTLS }
	connectTLS struct{ *security.WatchedTLS }
	apiTLS     struct{ *security.WatchedTLS }
)

// watchedTLS makes the TLS files be read again when they change and on SIGHUP, and logs where there are none but should be.
func watchedTLS() fx.Option {
	return fx.Module("tls",
		fx.Provide(
			func(cfg *config.Config, metrics prometheus.Registerer, log *slog.Logger) (s serviceTLS, c connectTLS, a apiTLS, err error) {
				if cfg.ServiceTLS {
					s.WatchedTLS, err = security.WatchTLS(cfg.ServiceTLSFiles, "service", metrics, log)
				}
				if err == nil && cfg.ConnectTLS.Named() {
					c.WatchedTLS, err = security.WatchTLS(cfg.ConnectTLS, "connect", metrics, log)
				}
				if err == nil && cfg.APITLS.Named() {
					a.WatchedTLS, err = security.WatchTLS(cfg.APITLS, "api", metrics, log)
				}
				return s, c, a, err
			},
			asReloads(func(s serviceTLS, c connectTLS, a apiTLS) (reloads []reload) {
				for part, w := range watched(s, c, a) {
					reloads = append(reloads, reload{part, w.Reload})
				}
				return reloads
			}),
		),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, cfg *config.Config, log *slog.Logger, s serviceTLS, c connectTLS, a apiTLS) {
			for _, where := range cfg.OpenTokens() {
				log.Warn("a token crosses a network without TLS", "where", where)
			}
			for part, w := range watched(s, c, a) {
				runs(lc, shutdown, log, part, w.Run, nil)
			}
		}),
	)
}

// watched returns the sets of files that there are.
func watched(s serviceTLS, c connectTLS, a apiTLS) map[string]*security.WatchedTLS {
	all := map[string]*security.WatchedTLS{}
	if s.WatchedTLS != nil {
		all["TLS between nodes"] = s.WatchedTLS
	}
	if c.WatchedTLS != nil {
		all["TLS of WebSockets"] = c.WatchedTLS
	}
	if a.WatchedTLS != nil {
		all["TLS of the API"] = a.WatchedTLS
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

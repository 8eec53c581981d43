package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"

	"go.uber.org/fx"
	"google.golang.org/grpc"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/audit"
	"millrace/handlers/push"
	"millrace/infra/config"
	"millrace/infra/pubsub"
	"millrace/infra/router"
	millracev1 "millrace/proto/millrace/v1"
)

// runHandlers runs the handlers named in the configuration.
func runHandlers(cfg *config.Config) (fx.Option, error) {
	selected, err := handlers.Module(cfg.Handlers...)
	if err != nil {
		return nil, err
	}
	options := []fx.Option{
		selected,
		fx.Provide(func(cfg *config.Config) audit.Config {
			if cfg.AuditFile == "" {
				return audit.Config{Path: filepath.Join(cfg.DataDir, "audit.log")}
			}
			return audit.Config{Path: cfg.AuditFile}
		}),
		fx.Provide(fx.Annotate(newRouter, fx.ParamTags(``, `group:"handlers"`))),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, r *router.Router) {
			runs(lc, shutdown, log, "router", r.Run, func(context.Context) error { return r.Close() })
		}),
	}
	if runsPush(cfg) {
		options = append(options, fx.Provide(asGRPCService(func(hub *push.Hub) grpcService {
			return grpcService{
				register:   func(r grpc.ServiceRegistrar) { millracev1.RegisterPushServiceServer(r, hub) },
				endStreams: hub.Stop,
			}
		})))
	}
	return fx.Module("handlers", options...), nil
}

// runsPush tells whether gateways attach to this process.
func runsPush(cfg *config.Config) bool { return slices.Contains(cfg.Handlers, "push") }

func newRouter(bus pubsub.Bus, handlers []events.Handler, log *slog.Logger) (*router.Router, error) {
	return router.New(bus, handlers, router.Options{}, log)
}

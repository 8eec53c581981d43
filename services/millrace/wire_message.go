package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"google.golang.org/grpc"

	"millrace/handlers"
	"millrace/handlers/analytics"
	"millrace/infra/panics"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/message"
)

// messageService offers the message API.
func messageService() fx.Option {
	return fx.Module("message", fx.Provide(
		fx.Annotate(newMessageService, fx.ParamTags(``, ``, ``, `group:"hooks"`)),
		asHooks(rulesHook), asHooks(httpHook),
		func(db storeBackend) millracev1.StatisticsServiceServer {
			return message.NewStatistics(db, func(version int) string { return handlers.Version(analytics.Name, version) })
		},
		asGRPCService(func(statistics millracev1.StatisticsServiceServer) grpcService {
			return grpcService{register: func(r grpc.ServiceRegistrar) { millracev1.RegisterStatisticsServiceServer(r, statistics) }}
		}),
		func(bus pubsub.Bus, db storeBackend, s *message.Service) millracev1.OperatorServiceServer {
			return message.NewOperator(bus.Publisher(), db, message.NewEraser(s, db))
		},
		asGRPCService(func(operator millracev1.OperatorServiceServer) grpcService {
			return grpcService{register: func(r grpc.ServiceRegistrar) { millracev1.RegisterOperatorServiceServer(r, operator) }}
		}),
		asGRPCService(func(s *message.Service) grpcService {
			return grpcService{
				register: func(r grpc.ServiceRegistrar) { millracev1.RegisterMessageServiceServer(r, s) },
				endStreams: func(context.Context) error {
					s.Drain()
					return nil
				},
			}
		}),
	))
}

func newMessageService(
	lc fx.Lifecycle, bus pubsub.Bus, store message.Store, hooks []message.Hook, metrics prometheus.Registerer, log *slog.Logger,
	contain *panics.Panics, tracer *telemetry.Tracer,
) (*message.Service, error) {
	s, err := message.New(message.Deps{Bus: bus, Store: store, Log: log, Panics: contain, Hooks: hooks, Metrics: metrics, Tracer: tracer})
	if err != nil {
		return nil, err
	}
	lc.Append(fx.StopHook(s.Close))
	return s, nil
}

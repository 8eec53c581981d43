package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/broker"
	"millrace/infra/config"
	"millrace/infra/panics"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// asCheck adds what the constructor answers to the checks of /readyz.
func asCheck(constructor any) any {
	return fx.Annotate(constructor, fx.ResultTags(`group:"checks"`))
}

// common is what every role has: its configuration, a log on standard error and, where one is configured, the admin
// server.
func common(cfg *config.Config) fx.Option {
	options := []fx.Option{
		fx.Supply(cfg),
		drainingCheck(),
		hangup(),
		fx.Provide(panics.New),
		fx.Provide(fx.Annotate(
			func(cfg *config.Config) *prometheus.Registry { return telemetry.NewMetrics(version, string(cfg.Role)) },
			fx.As(fx.Self()), fx.As(new(prometheus.Registerer)),
		)),
		fx.Provide(func(cfg *config.Config) *slog.Logger {
			return telemetry.NewLogger(os.Stderr, cfg.LogLevel, cfg.LogFormat).With("role", string(cfg.Role))
		}),
	}
	if cfg.AdminAddr != "" {
		options = append(options, fx.Invoke(fx.Annotate(
			func(lc fx.Lifecycle, cfg *config.Config, checks []telemetry.Check, metrics *prometheus.Registry) error {
				admin, err := telemetry.StartAdmin(cfg.AdminAddr, checks, metrics)
				if err != nil {
					return err
				}
				lc.Append(fx.StopHook(admin.Close))
				return nil
			},
			fx.ParamTags(``, ``, `group:"checks"`, ``),
		)))
	}
	return fx.Options(options...)
}

// drainingCheck fails from when the process is told to stop until it has.
func drainingCheck() fx.Option {
	return fx.Provide(asCheck(func(ctx context.Context) telemetry.Check {
		return telemetry.Check{Name: "process", Ready: func(context.Context) error {
			if ctx.Err() != nil {
				return errors.New("draining")
			}
			return nil
		}}
	}))
}

// brokerCheck is that of the broker alone.
func brokerCheck() fx.Option {
	return fx.Provide(asCheck(func(b *broker.Broker) telemetry.Check {
		return telemetry.Check{Name: "broker", Ready: b.Ping}
	}))
}

// logAndStoreChecks are those of every role that works on the log and the store.
func logAndStoreChecks() fx.Option {
	return fx.Provide(
		asCheck(func(bus pubsub.Bus) telemetry.Check {
			return telemetry.Check{Name: "log", Ready: func(ctx context.Context) error {
				_, err := bus.Log(events.TopicMessages).End(ctx)
				return errors.Join(bus.Ready(), err)
			}}
		}),
		asCheck(func(db storeBackend) telemetry.Check { return telemetry.Check{Name: "store", Ready: db.Ping} }),
	)
}

package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/broker"
	"millrace/infra/config"
	"millrace/infra/panics"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
)

// asCheck adds the checks that the constructor returns to those of /readyz.
func asCheck(constructor any) any {
	return fx.Annotate(constructor, fx.ResultTags(`group:"checks"`))
}

// common is what every role has: its configuration, a log on standard error and, if one is configured, the admin server,
// which responds before any other part is made.
func common(cfg *config.Config) fx.Option {
	return fx.Options(
		fx.Supply(cfg),
		hangup(),
		fx.Provide(
			panics.New,
			fx.Annotate(
				func(cfg *config.Config) *prometheus.Registry { return telemetry.NewMetrics(version, string(cfg.Role)) },
				fx.As(fx.Self()), fx.As(new(prometheus.Registerer)),
			),
			newLog, newTracer, newChecks, newWaits, newAddresses,
		),
		// fx calls the invokes of modules in order, and before those at this level.
		fx.Module("admin", fx.Invoke(startAdmin)),
		watchedTLS(),
		fx.Invoke(fx.Annotate(addChecks, fx.ParamTags(``, `group:"checks"`))),
	)
}

func newLog(cfg *config.Config) *slog.Logger {
	return telemetry.NewLogger(os.Stderr, cfg.LogLevel, cfg.LogFormat).With("role", string(cfg.Role))
}

// newTracer returns nil unless OpenTelemetry's environment variables ask for traces.
func newTracer(
	ctx context.Context, lc fx.Lifecycle, cfg *config.Config, metrics prometheus.Registerer, log *slog.Logger,
) (*telemetry.Tracer, error) {
	if !telemetry.TracesConfigured() {
		return nil, nil
	}
	tracing, err := telemetry.StartTracing(ctx, string(cfg.Role), version, metrics, log)
	if err != nil {
		return nil, usageError{err}
	}
	lc.Append(fx.StopHook(tracing.Close))
	return tracing.Tracer(), nil
}

func startAdmin(
	lc fx.Lifecycle, cfg *config.Config, at *addresses, checks *checks, metrics *prometheus.Registry, log *slog.Logger,
) error {
	if cfg.AdminAddr == "" {
		return nil
	}
	admin, err := telemetry.StartAdmin(cfg.AdminAddr, &checks.Checks, metrics, log)
	if err != nil {
		return err
	}
	at.set(partAdmin, admin.Addr())
	lc.Append(fx.StopHook(admin.Close))
	return nil
}

// checks are the checks of /readyz. The process is not ready before all parts are made and have added their checks.
type checks struct {
	telemetry.Checks
	complete atomic.Bool
}

func newChecks(ctx context.Context) *checks {
	c := &checks{}
	c.Add(telemetry.Check{Name: "process", Ready: func(context.Context) error {
		switch {
		case ctx.Err() != nil:
			return errors.New("draining")
		case !c.complete.Load():
			return errors.New("starting")
		}
		return nil
	}})
	return c
}

func addChecks(c *checks, all []telemetry.Check) {
	c.Add(all...)
	c.complete.Store(true)
}

// brokerCheck checks the broker alone.
func brokerCheck() fx.Option {
	return fx.Provide(asCheck(func(b *broker.Broker) telemetry.Check {
		return telemetry.Check{Name: "broker", Ready: b.Ping}
	}))
}

// logAndStoreChecks are the checks of every role that uses the log and the store.
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

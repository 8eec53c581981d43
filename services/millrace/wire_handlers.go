package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"google.golang.org/grpc"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/analytics"
	"millrace/handlers/audit"
	"millrace/handlers/broadcast"
	"millrace/handlers/groups"
	"millrace/handlers/moderation"
	"millrace/handlers/notify"
	"millrace/handlers/push"
	"millrace/handlers/users"
	"millrace/handlers/webhook"
	"millrace/infra/admission"
	"millrace/infra/config"
	"millrace/infra/panics"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/redis"
	"millrace/infra/router"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

// runHandlers runs the handlers named in the configuration.
func runHandlers(cfg *config.Config) (fx.Option, error) {
	selected, err := handlers.Module(cfg.Version, cfg.Handlers...)
	if err != nil {
		return nil, err
	}
	options := []fx.Option{
		selected,
		fx.Provide(func(cfg *config.Config) analytics.Config {
			return analytics.Config{Series: handlers.Version(analytics.Name, cfg.Version)}
		}),
		fx.Provide(func(cfg *config.Config) audit.Config {
			return audit.Config{Path: auditFile(cfg), MaxSize: int64(cfg.AuditMaxSize) << 20}
		}),
		fx.Provide(func(cfg *config.Config) audit.OperationsConfig {
			return audit.OperationsConfig{Path: operationsFile(cfg), MaxSize: int64(cfg.AuditMaxSize) << 20}
		}),
		fx.Provide(
			newAdmission, newCopies, newRecalls, newFloods, newMarks, fx.Annotate(newRouterOptions, fx.ParamTags(`group:"handlers"`, ``, `group:"middleware"`)),
			fx.Annotate(newFollowers, fx.ParamTags(``, `group:"handlers"`)),
			fx.Annotate(newRetrier, fx.ParamTags(``, `group:"handlers"`)), newRouter,
			fx.Annotate(newLags, fx.ParamTags(``, ``, ``, `group:"handlers"`)),
		),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, r *router.Router) {
			runs(lc, shutdown, log, "router", r.Run, func(context.Context) error { return r.Close() })
		}),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, contain *panics.Panics, r *poison.Retrier) {
			runs(lc, shutdown, log, "retrier", contain.Kept(r.Run), nil)
		}),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, contain *panics.Panics, lags []*telemetry.Lag) {
			for _, lag := range lags {
				runs(lc, shutdown, log, "lag", contain.Kept(lag.Run), nil)
			}
		}),
		fx.Invoke(measurePoison),
		fx.Provide(asReloads(reloadHandlers, `group:"handlers"`)),
		fx.Provide(fx.Annotate(newHandlersCheck, fx.ParamTags(``, ``, ``, `group:"handlers"`), fx.ResultTags(`group:"checks"`))),
	}
	if slices.Contains(cfg.Handlers, webhook.HandlerName) {
		endpoints, err := readWebhooks(cfg)
		if err != nil {
			return nil, usageError{err}
		}
		options = append(options, fx.Supply(endpoints), fx.Invoke(registerWebhookMetrics))
	}
	if slices.Contains(cfg.Handlers, notify.Name) {
		c, err := notifyConfig(cfg)
		if err != nil {
			return nil, usageError{err}
		}
		options = append(options, fx.Provide(func(contain *panics.Panics) notify.Config {
			c.Contain = func(f func()) error { return contain.Do(panics.Background, f) }
			return c
		}, func(db storeBackend) notify.Store { return notifyStore{db} }))
	}
	if runsPush(cfg) {
		options = append(options, fx.Provide(newPushOptions, func(hub *push.Hub) broadcast.Broadcaster { return hub }, asGRPCService(func(hub *push.Hub) grpcService {
			return grpcService{
				register:   func(r grpc.ServiceRegistrar) { millracev1.RegisterPushServiceServer(r, hub) },
				endStreams: hub.Stop,
			}
		})))
	}
	return fx.Module("handlers", options...), nil
}

// newHandlersCheck returns the check, and registers the metric, that tell which handlers can do their work. A worker has
// nothing else to do, so it is not ready while one of its handlers cannot. In other roles the rest works, and an unready
// process would take that away too.
func newHandlersCheck(
	cfg *config.Config, r *router.Router, metrics prometheus.Registerer, handlers []events.Handler,
) telemetry.Check {
	for _, h := range handlers {
		if h.Ready == nil {
			continue
		}
		metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millrace_handler_ready", ConstLabels: prometheus.Labels{"handler": h.Name},
			Help: "Whether the handler can do its work: 1, or 0 while what it needs cannot be used.",
		}, func() float64 {
			if h.Ready() != nil {
				return 0
			}
			return 1
		}))
	}
	return telemetry.Check{Name: "handlers", Ready: func(context.Context) error {
		errs := []error{r.Ready()}
		for _, h := range handlers {
			if h.Ready != nil && cfg.Role == config.Worker {
				errs = append(errs, h.Ready())
			}
		}
		return errors.Join(errs...)
	}}
}

// newAdmission returns what the push handler asks before it delivers, the groups handler before it copies, and the moderation
// handler before it recalls: the store and, where that is behind, the log. Each has tracks of its own, because one may be ahead of
// the others.
func newAdmission(db admission.Store, bus pubsub.Bus) (push.Admission, groups.Admission, moderation.Admission, error) {
	judge, err := admission.New(db, bus.Log(events.TopicMessages))
	if err != nil {
		return nil, nil, nil, err
	}
	return admission.NewTracks(judge), admission.NewTracks(judge), admission.NewTracks(judge), nil
}

func newPushOptions(contain *panics.Panics, bus pubsub.Bus, db storeBackend) push.Options {
	return push.Options{
		Contain: func(f func()) error { return contain.Do(panics.Push, f) },
		Users: userEvents{
			seenStore: db, progress: progressOf(db, users.Group), publisher: bus.Publisher(), log: bus.Log(events.TopicUsers),
		},
	}
}

// runsPush reports whether gateways attach to this process.
func runsPush(cfg *config.Config) bool { return slices.Contains(cfg.Handlers, "push") }

// marksOf returns the marks of a handler.
type marksOf func(handler string) router.Marks

// ownMarks is how many marks of each handler this process keeps in memory.
const ownMarks = 200_000

// newMarks shares the marks through Redis if that is configured.
func newMarks(lc fx.Lifecycle, cfg *config.Config, log *slog.Logger) (marksOf, error) {
	if cfg.RedisAddr == "" {
		return func(string) router.Marks { return router.NewMarks(ownMarks) }, nil
	}
	client, err := redis.Open(cfg.Redis(), log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config.EnvName("redis-addr"), err)
	}
	lc.Append(fx.StopHook(client.Close))
	return func(handler string) router.Marks { return client.Marks(handler, router.NewMarks(ownMarks)) }, nil
}

// stuckAfter is how long a record may fail while others are handled before it goes to the poison queue, and then how long it
// waits before it is tried again.
const stuckAfter = time.Minute

// asMiddleware adds what the constructor returns, a [message.HandlerMiddleware], to the stages that every record runs
// through; see [router.Options].
func asMiddleware(constructor any) any {
	return fx.Annotate(constructor, fx.ResultTags(`group:"middleware"`))
}

// retries counts the further attempts of each handler that runs in this process.
type retries map[string]*atomic.Int64

func newRouterOptions(
	handlers []events.Handler, marks marksOf, middleware []message.HandlerMiddleware, metrics prometheus.Registerer,
	tracer *telemetry.Tracer,
) (router.Options, retries) {
	attempts, observe := make(retries, len(handlers)), router.Metrics(metrics, handlers)
	for _, h := range handlers {
		attempts[h.Name] = new(atomic.Int64)
	}
	return router.Options{
		Marks: marks, Middleware: middleware, StuckAfter: stuckAfter, Tracer: tracer,
		Observe: func(o router.Observation) {
			attempts[o.Handler].Add(int64(o.Retries))
			observe(o)
		},
	}, attempts
}

// newFollowers returns followers of the poison queues of all topics that handlers read, which the parts of this process
// share.
func newFollowers(bus pubsub.Bus, running []events.Handler) []*poison.Follower {
	var followers []*poison.Follower
	for _, topic := range topicsOf(running) {
		followers = append(followers, poison.Follow(bus, topic, running))
	}
	return followers
}

func newRetrier(followers []*poison.Follower, handlers []events.Handler, opts router.Options, log *slog.Logger) *poison.Retrier {
	return poison.NewRetrier(followers, handlers, opts.StuckAfter, log)
}

func newRouter(
	ctx context.Context, cfg *config.Config, bus pubsub.Bus, db storeBackend, retrier *poison.Retrier, opts router.Options, log *slog.Logger,
) (*router.Router, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := bus.Ensure(ctx, topicsOf(retrier.Handlers())...); err != nil {
		return nil, err
	}
	running := keepProgress(db, retrier.Handlers())
	if err := begin(ctx, cfg, bus, running, log); err != nil {
		return nil, err
	}
	return router.New(bus, running, opts, log)
}

// newLags measures how far the handlers are behind, by the topic that they read. A process that serves the message API
// measures all handlers there are, so that the lag is known even if nobody runs a handler any more.
func newLags(
	cfg *config.Config, bus pubsub.Bus, db storeBackend, running []events.Handler, metrics prometheus.Registerer, log *slog.Logger,
) []*telemetry.Lag {
	var lags []*telemetry.Lag
	for _, topic := range topicsOf(running) {
		var groups []string
		for _, h := range running {
			if h.Topic == topic {
				groups = append(groups, h.Group)
			}
		}
		var others func(context.Context) ([]string, error)
		if cfg.Role != config.Worker {
			others = func(ctx context.Context) ([]string, error) { return groupsOf(ctx, bus.Groups(), topic, groups) }
		}
		lags = append(lags, telemetry.NewLag(metrics, topic, keptLog{bus.Log(topic), db}, groups, others, log))
	}
	return lags
}

// groupsOf returns the consumer groups that the log knows of handlers which read the topic, without those passed.
func groupsOf(ctx context.Context, groups pubsub.Groups, topic string, without []string) ([]string, error) {
	all, err := groups.List(ctx, func(group string) bool {
		_, reads, ok := handlers.Of(group)
		return ok && reads == topic && !slices.Contains(without, group)
	})
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// measurePoison measures what waits in the poison queues, in a process that serves the message API.
func measurePoison(
	lc fx.Lifecycle, shutdown fx.Shutdowner, cfg *config.Config, followers []*poison.Follower, metrics prometheus.Registerer,
	contain *panics.Panics, log *slog.Logger,
) {
	if cfg.Role == config.Worker {
		return
	}
	for _, f := range followers {
		runs(lc, shutdown, log, "poison backlog", contain.Kept(poison.NewBacklog(metrics, f, log).Run), nil)
	}
}

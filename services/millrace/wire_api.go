package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/fx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/push"
	"millrace/infra/auth"
	"millrace/infra/config"
	"millrace/infra/panics"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/rules"
	"millrace/infra/security"
	"millrace/infra/telemetry"
	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/api"
	"millrace/services/message"
	"millrace/services/web/console"
)

const (
	// apiIdle is how long a connection of a backend stays open for the next request.
	apiIdle = 2 * time.Minute
	// apiTimeout is how long a request may take to arrive, and its response to be read.
	apiTimeout = 30 * time.Second
)

// apiServer serves the API for backends.
type apiServer struct {
	listener net.Listener
	server   *http.Server
}

func newAPIServer(
	ctx context.Context, cfg *config.Config, files apiTLS, messages *message.Service, statistics millracev1.StatisticsServiceServer,
	store storeBackend, bus pubsub.Bus, gateways api.Gateways, nodes millracev1.OperatorServiceServer, lags []*telemetry.Lag, attempts retries, decided *rules.File, contain *panics.Panics, tracer *telemetry.Tracer, log *slog.Logger,
) (*apiServer, error) {
	service := &api.Service{Messages: messages, Statistics: statistics, Store: store, SystemUser: cfg.APISystemUser}
	if cfg.JWTSecret != "" {
		service.Sign = func(id auth.Identity) (string, error) { return auth.Sign(cfg.JWTSecret, id) }
	}
	limits := api.Config{Keys: cfg.APIKeys, Rate: cfg.APIRate, Origins: cfg.APIOrigins, Publisher: bus.Publisher(), Log: log, Panics: contain, Console: console.Handler(), Tracer: tracer}
	if cfg.APIOpen() {
		limits.Open = &auth.APIKey{Name: "dev", Scopes: []auth.Scope{auth.ScopeAdmin}}
	}
	operator := &api.Operator{
		Bus: bus, Log: log, Handlers: handlerStates(bus, lags, attempts), Partitions: handlerPartitions(bus, lags), Stored: store.Stored, Gateways: gateways, Nodes: nodes,
		NoReplay: func(ctx context.Context, entries []*poison.Entry) (map[string]string, error) {
			return noReplay(ctx, bus.Groups(), entries)
		},
	}
	if decided != nil {
		operator.Rules = decided.State
	}
	stopping, stop := context.WithCancel(context.WithoutCancel(ctx))
	handler, err := api.New(stopping, limits, service, operator)
	if err != nil {
		stop()
		return nil, fmt.Errorf("API: %w", err)
	}
	if cfg.APIOpen() {
		handler = security.OnlyLocalHosts(handler, cfg.AllowsHost)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.APIAddr)
	if err != nil {
		stop()
		return nil, fmt.Errorf("API: %w", err)
	}
	s := &apiServer{listener: listener, server: &http.Server{
		Handler: handler, ReadTimeout: apiTimeout, WriteTimeout: apiTimeout, IdleTimeout: apiIdle, ErrorLog: telemetry.ServerErrors(log),
		Protocols: new(http.Protocols),
	}}
	s.server.RegisterOnShutdown(stop)
	s.server.Protocols.SetHTTP1(true)
	s.server.Protocols.SetHTTP2(true)
	s.server.Protocols.SetUnencryptedHTTP2(true)
	if files.WatchedTLS != nil {
		s.listener = tls.NewListener(listener, files.Server("h2", "http/1.1"))
	}
	return s, nil
}

// handlerStates returns a function that lists the handlers as the command `handlers` does.
func handlerStates(bus pubsub.Bus, lags []*telemetry.Lag, attempts retries) func(context.Context) ([]*apiv1.Handler, error) {
	list := handlerList{bus: bus, poisoned: make(map[string]poisoned)}
	var mu sync.Mutex
	return func(ctx context.Context) ([]*apiv1.Handler, error) {
		mu.Lock()
		defer mu.Unlock()
		rows, err := list.rows(ctx)
		states := make([]*apiv1.Handler, len(rows))
		for i, r := range rows {
			states[i] = &apiv1.Handler{
				Name: r.Handler, Group: r.Group, Topic: r.Topic, State: r.State, Members: int32(r.Members), Lag: r.Lag, Poisoned: int32(r.Poisoned),
				Written: r.Written, Handled: r.Handled, Failed: int64(r.Failed),
			}
			if !r.OldestPoisoned.IsZero() {
				states[i].OldestPoisoned = r.OldestPoisoned.Unix()
			}
			if n, runs := attempts[r.Handler]; runs {
				states[i].Retries = new(n.Load())
			}
			for _, lag := range lags {
				if age, measured := lag.Age(r.Group); measured {
					seconds := int64(age.Seconds())
					states[i].LagSeconds = &seconds
				}
			}
		}
		return states, err
	}
}

// handlerPartitions returns a function that returns how far a handler is in each partition, or nothing if there is no such handler
// or it never ran.
func handlerPartitions(bus pubsub.Bus, lags []*telemetry.Lag) func(context.Context, string) ([]*apiv1.HandlerPartition, error) {
	return func(ctx context.Context, name string) ([]*apiv1.HandlerPartition, error) {
		group := handlers.Group(name)
		_, topic, known := handlers.Of(group)
		if !known {
			return nil, nil
		}
		if ran, err := bus.Groups().List(ctx, func(g string) bool { return g == group }); err != nil || len(ran) == 0 {
			return nil, err
		}
		committed, err := bus.Log(topic).Committed(ctx, group) // before the end, because it only grows
		if err != nil {
			return nil, err
		}
		end, err := bus.Log(topic).End(ctx)
		if err != nil {
			return nil, err
		}
		ages, measured := agesOf(lags, group)
		var partitions []*apiv1.HandlerPartition
		for _, p := range slices.Sorted(maps.Keys(end)) {
			of := &apiv1.HandlerPartition{
				Partition: p, End: end[p], Handled: committed[p], Lag: events.Range{Partition: p, After: committed[p], Through: end[p]}.Len(),
			}
			if measured {
				of.LagSeconds = new(int64(ages[p].Seconds()))
			}
			partitions = append(partitions, of)
		}
		return partitions, nil
	}
}

func agesOf(lags []*telemetry.Lag, group string) (ages map[int32]time.Duration, measured bool) {
	for _, lag := range lags {
		if ages, measured = lag.PartitionAges(group); measured {
			return ages, true
		}
	}
	return nil, false
}

func (s *apiServer) run(context.Context) error {
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// remoteGateways asks another push node.
type remoteGateways struct{ node millracev1.PushServiceClient }

func (g remoteGateways) Connections(ctx context.Context, r *millracev1.ConnectionsRequest) (*millracev1.ConnectionsResponse, error) {
	return g.node.Connections(ctx, r)
}

func (g remoteGateways) Disconnect(ctx context.Context, r *millracev1.DisconnectRequest) (*millracev1.DisconnectResponse, error) {
	return g.node.Disconnect(ctx, r)
}

// unknownGateways is for a node that knows no push node.
type unknownGateways struct{}

func (unknownGateways) Connections(context.Context, *millracev1.ConnectionsRequest) (*millracev1.ConnectionsResponse, error) {
	return nil, errNoPushNode()
}

func (unknownGateways) Disconnect(context.Context, *millracev1.DisconnectRequest) (*millracev1.DisconnectResponse, error) {
	return nil, errNoPushNode()
}

func errNoPushNode() error {
	return status.Error(codes.Unavailable, "this node runs no push handler, and no push node is configured: set MILLRACE_PUSH_ADDRS")
}

// gatewaysOf returns the constructor of what asks this process, if it is a push node, or else the first of those that the
// configuration names.
func gatewaysOf(cfg *config.Config) any {
	switch {
	case runsPush(cfg):
		return func(hub *push.Hub) api.Gateways { return hub }
	case len(cfg.PushAddrs) > 0:
		return func(lc fx.Lifecycle, tls serviceTLS) (api.Gateways, error) {
			conn, err := grpc.NewClient(cfg.PushAddrs[0], dialOptions(cfg, tls)...)
			if err != nil {
				return nil, fmt.Errorf("API: push node: %w", err)
			}
			lc.Append(fx.StopHook(conn.Close))
			return remoteGateways{millracev1.NewPushServiceClient(conn)}, nil
		}
	}
	return func() api.Gateways { return unknownGateways{} }
}

// serveAPI serves the API if the configuration lets anybody call it.
func serveAPI(cfg *config.Config) fx.Option {
	if !cfg.ServesAPI() {
		return fx.Options()
	}
	return fx.Module("API",
		fx.Provide(newAPIServer, gatewaysOf(cfg)),
		fx.Invoke(func(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, at *addresses, s *apiServer) {
			at.set(partAPI, s.listener.Addr().String())
			runs(lc, shutdown, log, "API", s.run, s.server.Shutdown)
		}),
	)
}

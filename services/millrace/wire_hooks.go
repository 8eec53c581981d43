package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"millrace/infra/config"
	"millrace/infra/hook"
	"millrace/infra/panics"
	"millrace/infra/pubsub"
	"millrace/infra/rules"
	"millrace/infra/signature"
	"millrace/services/message"
)

// The ranks of the hooks: the endpoint is asked about what costs nothing to refuse no more.
const (
	rankRules = iota
	rankHTTP
)

// rulesTimeout is more than rules ever take: they wait for nothing.
const rulesTimeout = time.Second

// asHooks adds what the constructor returns, a slice of [message.Hook], to what is asked before a message is accepted.
func asHooks(constructor any) any {
	return fx.Annotate(constructor, fx.ResultTags(`group:"hooks,flatten"`))
}

// rulesFile provides the rules to all that go by them.
func rulesFile() fx.Option { return fx.Provide(newRules) }

// newRules returns the rules, or nil if no file of them is configured. They take effect once the topics of their routes exist.
func newRules(
	ctx context.Context, lc fx.Lifecycle, shutdown fx.Shutdowner, cfg *config.Config, bus pubsub.Bus, metrics prometheus.Registerer,
	log *slog.Logger, contain *panics.Panics,
) (*rules.File, error) {
	if cfg.Rules == "" {
		return nil, nil
	}
	file, err := rules.Open(cfg.Rules, func(set *rules.Set) error {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		return bus.Ensure(ctx, routeTopics(set.Routes())...)
	}, metrics, log)
	if err != nil {
		return nil, err
	}
	runs(lc, shutdown, log, "rules", contain.Kept(file.Run), nil)
	return file, nil
}

// rulesHook makes the rules a hook if there are any.
func rulesHook(file *rules.File) []message.Hook {
	if file == nil {
		return nil
	}
	return []message.Hook{{Name: "rules", Rank: rankRules, Reviewer: file, Timeout: rulesTimeout, FailOpen: true}}
}

// httpHook returns the hook over HTTP if one is configured.
func httpHook(lc fx.Lifecycle, cfg *config.Config) ([]message.Hook, error) {
	if cfg.HookURL == "" {
		return nil, nil
	}
	keys, err := signature.ParseKeys(cfg.HookSecret)
	if err != nil {
		return nil, err
	}
	h := hook.NewHTTP(cfg.HookURL, keys)
	lc.Append(fx.StopHook(h.Close))
	return []message.Hook{{
		Name: "http", Rank: rankHTTP, Reviewer: h, Timeout: cfg.HookTimeout, FailOpen: cfg.HookFailsOpen(),
	}}, nil
}

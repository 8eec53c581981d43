package main

import (
	"go.uber.org/fx"

	"millrace/infra/config"
	"millrace/infra/hook"
	"millrace/infra/signature"
	"millrace/services/message"
)

// The ranks of the hooks: the endpoint is asked about what costs nothing to refuse no more.
const (
	rankRules = iota
	rankHTTP
)

// asHooks adds what the constructor returns, a slice of [message.Hook], to what is asked before a message is accepted.
func asHooks(constructor any) any {
	return fx.Annotate(constructor, fx.ResultTags(`group:"hooks,flatten"`))
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

package handlers_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/audit"
	"millrace/handlers/push"
	"millrace/handlers/storage"
)

type store struct{}

func (store) SaveBatch(_ context.Context, batch []events.Record) []error {
	return make([]error, len(batch))
}

func (store) Stored(context.Context) (map[int32]int64, error) { return nil, nil }

func (store) Advance(context.Context, map[int32]int64) error { return nil }

type admission struct{ push.Admission }

type group struct {
	fx.In
	Handlers []events.Handler `group:"handlers"`
}

func TestOnlyTheHandlersNamedAreMade(t *testing.T) {
	for name, names := range map[string][]string{
		"none": {}, "one": {"storage"}, "two, one of them twice": {"push", "storage", "push"}, "all": handlers.Names(),
	} {
		t.Run(name, func(t *testing.T) {
			module, err := handlers.Module(names...)
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "audit.log")
			var g group
			app := fxtest.New(t, module, fx.NopLogger, fx.Populate(&g),
				fx.Supply(slog.New(slog.DiscardHandler), audit.Config{Path: path}),
				fx.Provide(func() storage.Store { return store{} }, func() push.Admission { return admission{} }))
			app.RequireStart().RequireStop()
			var got []string
			for _, h := range g.Handlers {
				got = append(got, h.Name)
				require.Equal(t, h.Name+"-consumer-group", h.Group)
				require.Contains(t, handlers.Groups()[h.Topic], h.Group)
				require.Equal(t, handlers.NoReplay()[h.Name], h.NoReplay)
			}
			require.Subset(t, got, names)
			require.Subset(t, names, got)
			if name != "all" {
				require.NoFileExists(t, path)
			}
		})
	}
}

func TestUnknownNameIsAnErrorThatTellsTheKnown(t *testing.T) {
	_, err := handlers.Module("storage", "telepathy")
	require.EqualError(t, err, `unknown handler "telepathy": known are audit, push, storage`)
}

package handlers_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/analytics"
	"millrace/handlers/audit"
	"millrace/handlers/broadcast"
	"millrace/handlers/groups"
	"millrace/handlers/moderation"
	"millrace/handlers/notify"
	"millrace/handlers/push"
	"millrace/handlers/route"
	"millrace/handlers/storage"
	"millrace/handlers/users"
	"millrace/handlers/webhook"
)

type store struct{}

func (store) SaveBatch(_ context.Context, batch []events.Record) []error {
	return make([]error, len(batch))
}

func (store) Stored(context.Context) (map[int32]int64, error) { return nil, nil }

func (store) Advance(context.Context, map[int32]int64) error { return nil }

func (store) SaveUsers(context.Context, []events.Record) error { return nil }

func (store) SaveRevocations(context.Context, []events.Record) error { return nil }

type broadcaster struct{ broadcast.Broadcaster }

type admission struct{ push.Admission }

type groupAdmission struct{ groups.Admission }

func (groupAdmission) Assigned(events.Position) {}
func (groupAdmission) Released(int32)           {}

type modAdmission struct{ moderation.Admission }

func (modAdmission) Assigned(events.Position) {}
func (modAdmission) Released(int32)           {}

type floods struct{ moderation.Floods }

type recalls struct{ moderation.Publisher }

type copies struct{ route.Publisher }

type figures struct{ analytics.Store }

type webhookStore struct{ webhook.Store }

func (webhookStore) WebhookDisabled(context.Context, string, string) (bool, error) { return false, nil }

type notifyStore struct{ notify.Store }

func (notifyStore) DropNotifications(context.Context, time.Time) error { return nil }

func (notifyStore) TakeNotifications(context.Context, time.Time, time.Time, int) ([]notify.Notification, error) {
	return nil, nil
}

type group struct {
	fx.In
	Handlers []events.Handler `group:"handlers"`
}

func TestOnlyTheHandlersNamedAreMade(t *testing.T) {
	for name, names := range map[string][]string{
		"none": {}, "one": {"storage"}, "two, one of them twice": {"push", "storage", "push"}, "all": handlers.Names(),
	} {
		t.Run(name, func(t *testing.T) {
			module, err := handlers.Module(1, names...)
			require.NoError(t, err)
			path, operations := filepath.Join(t.TempDir(), "audit.log"), filepath.Join(t.TempDir(), "operations.log")
			var g group
			app := fxtest.New(t, module, fx.NopLogger, fx.Populate(&g),
				fx.Supply(slog.New(slog.DiscardHandler), audit.Config{Path: path}, audit.OperationsConfig{Path: operations}, analytics.Config{}, notify.Config{}, []webhook.Endpoint{{Name: "crm"}, {Name: "bi"}}),
				fx.Provide(
					func() (storage.Store, users.Store) { return store{}, store{} }, func() push.Admission { return admission{} },
					func() route.Publisher { return copies{} }, func() groups.Admission { return groupAdmission{} },
					func() (moderation.Admission, moderation.Floods, moderation.Publisher) {
						return modAdmission{}, floods{}, recalls{}
					},
					func() webhook.Store { return webhookStore{} }, func() analytics.Store { return figures{} },
					func() notify.Store { return notifyStore{} }, func() prometheus.Registerer { return prometheus.NewRegistry() },
					func() broadcast.Broadcaster { return broadcaster{} },
				))
			app.RequireStart().RequireStop()
			var got []string
			for _, h := range g.Handlers {
				require.Equal(t, h.Name+"-consumer-group", h.Group)
				require.Equal(t, handlers.NoReplay()[h.Name], h.NoReplay)
				name, _, ofSeveral := strings.Cut(h.Name, "-")
				got = append(got, name)
				if !ofSeveral {
					require.Contains(t, handlers.Groups()[h.Topic], h.Group)
				}
			}
			if slices.Contains(names, webhook.HandlerName) {
				require.ElementsMatch(t, append(names, webhook.HandlerName), got, "there is one for each endpoint")
			}
			require.Subset(t, got, names)
			require.Subset(t, names, got)
			if name != "all" {
				require.NoFileExists(t, path)
				require.NoFileExists(t, operations)
			}
		})
	}
}

func TestVersionHasANameAndAGroupOfItsOwn(t *testing.T) {
	module, err := handlers.Module(2, "audit")
	require.NoError(t, err)
	var g group
	fxtest.New(t, module, fx.NopLogger, fx.Populate(&g),
		fx.Supply(slog.New(slog.DiscardHandler), audit.Config{Path: filepath.Join(t.TempDir(), "audit.log")})).RequireStart().RequireStop()
	require.Len(t, g.Handlers, 1)
	require.Equal(t, "audit-v2", g.Handlers[0].Name)
	require.Equal(t, "audit-v2-consumer-group", g.Handlers[0].Group)
	_, err = handlers.Module(2, "audit", "push", "storage")
	require.ErrorContains(t, err, "there is one version of push alone: with another one beside it gateways would get everything twice")
	require.ErrorContains(t, err, "there is one version of storage alone")
	require.NotContains(t, err.Error(), "audit")
}

func TestGroupTellsItsHandler(t *testing.T) {
	for group, want := range map[string]string{
		"audit-consumer-group": "audit", "audit-v2-consumer-group": "audit-v2", "push-consumer-group": "push",
		"audition-consumer-group": "", "audit": "", "-consumer-group": "", "other": "",
	} {
		name, topic, ok := handlers.Of(group)
		require.Equal(t, want, name, group)
		require.Equal(t, want != "", ok)
		require.Equal(t, ok, topic == events.TopicMessages)
	}
}

func TestGroupTellsWhetherTheWorkIsInTheStore(t *testing.T) {
	var inStore []string
	for _, name := range handlers.Names() {
		if handlers.InStore(handlers.Group(name)) {
			inStore = append(inStore, name)
		}
	}
	require.Equal(t, []string{"analytics", "notify", "users"}, inStore)
	require.True(t, handlers.InStore("analytics-v2-consumer-group"))
	require.False(t, handlers.InStore("other-consumer-group"))
}

func TestWhatSpeaksToGatewaysRunsBesideWhatTheyAttachTo(t *testing.T) {
	for _, name := range []string{"notice", "revocation"} {
		require.EqualError(t, handlers.Check(1, "storage", name), name+" works only in a process that runs push too")
		require.NoError(t, handlers.Check(1, name, "push"))
	}
}

func TestUnknownNameIsAnErrorThatTellsTheKnown(t *testing.T) {
	_, err := handlers.Module(1, "storage", "telepathy")
	require.EqualError(t, err, `unknown handler "telepathy": known are analytics, audit, groups, moderation, notice, notify, operations, push, revocation, route, storage, users, webhook`)
}

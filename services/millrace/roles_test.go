package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/infra/config"
	"millrace/services/millrace/proof"
)

func TestEveryRoleIsWiredCompletely(t *testing.T) {
	webhooks := hookedUp(t, t.TempDir(), map[string]*hooked{"crm": newHooked(t)})
	for role, args := range map[config.Role][]string{
		config.Dev:     {"--jwt-secret=" + proof.Secret},
		config.Broker:  nil,
		config.Message: {"--kafka-brokers=127.0.0.1:1"},
		config.Connect: {"--jwt-secret=" + proof.Secret},
		config.Worker:  {"--kafka-brokers=127.0.0.1:1", "--handlers=analytics,audit,notify,push,storage,webhook", "--webhooks=" + webhooks, "--vapid-key=" + notifyKey, "--vapid-subject=mailto:ops@example.com"},
	} {
		t.Run(string(role), func(t *testing.T) {
			options, err := roleNamed(t, role).appOptions(parse(t, role, args...))
			require.NoError(t, err)
			require.NoError(t, fx.ValidateApp(options, fx.Supply(fx.Annotate(t.Context(), fx.As(new(context.Context))))))
		})
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, cmd := range newRootCommand().Commands() {
		out, err := run(t, cmd.Name(), "--help")
		require.NoError(t, err)
		require.Contains(t, out, "--help", cmd.Name())
		require.NotEmpty(t, cmd.Short)
	}
}

func TestWrongConfigurationIsToldAtOnceBeforeAnythingStarts(t *testing.T) {
	_, err := run(t, "message", "--message-addr=nowhere", "--log-format=xml")
	for _, want := range []string{"MILLRACE_KAFKA_BROKERS", "MILLRACE_MESSAGE_ADDR", "MILLRACE_LOG_FORMAT"} {
		require.ErrorContains(t, err, want)
	}
	_, err = run(t, "worker", "--kafka-brokers=127.0.0.1:1", "--handlers=audit,telepathy")
	require.ErrorContains(t, err, `unknown handler "telepathy"`)
	_, err = run(t, "worker", "--kafka-brokers=127.0.0.1:1", "--handlers=push", "--version=2", "--from=now", "--audit-max-size=-1")
	for _, want := range []string{"one version of push alone", "--from=now", "MILLRACE_AUDIT_MAX_SIZE"} {
		require.ErrorContains(t, err, want)
	}
	_, err = run(t, "worker", "--kafka-brokers=127.0.0.1:1")
	require.ErrorContains(t, err, "MILLRACE_HANDLERS")
}

func TestStoreIsMadeInADirectoryThatIsNotThereYet(t *testing.T) {
	db, err := openStore(t.Context(), &config.Config{DataDir: filepath.Join(t.TempDir(), "new", "data")}, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func TestUsageErrorsEndWithTwoAndFailuresWithOne(t *testing.T) {
	for want, calls := range map[int][][]string{
		exitUsage: {
			{"nonsense"},
			{"poison", "lst"},
			{"dev", "--nonsense"},
			{"dev", "--send-rate=many"},
			{"dev", "more"},
			{"token"},
			{"message"},
			{"connect", "--log-format=xml"},
			{"poison", "list", "--since=-1h"},
			{"client", "--user=1", "--target=1", "--group=1"},
		},
		1: {{"healthy", "--admin-addr=127.0.0.1:1"}},
		0: {{"poison"}, {"--help"}},
	} {
		for _, args := range calls {
			_, err := run(t, args...)
			require.Equal(t, want, exitCode(err), "%v: %v", args, err)
		}
	}
}

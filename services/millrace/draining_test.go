package main

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/infra/config"
	"millrace/services/millrace/proof"
)

// A load balancer and Kubernetes must learn that a process leaves before it stops accepting connections.
func TestEveryRoleSaysThatItDrainsBeforeAnythingStops(t *testing.T) {
	d := startDev(t, t.TempDir())
	log, node := "--kafka-brokers="+d.brokers[0], d.grpc.Addr()
	for role, args := range map[config.Role][]string{
		config.Dev:     {"--embedded-kafka-addr=127.0.0.1:0", "--connect-addr=127.0.0.1:0", "--message-addr=127.0.0.1:0", "--jwt-secret=" + proof.Secret},
		config.Broker:  {"--embedded-kafka-addr=127.0.0.1:0"},
		config.Message: {"--message-addr=127.0.0.1:0", log},
		config.Worker:  {"--handlers=audit", log},
		config.Connect: {"--connect-addr=127.0.0.1:0", "--message-addrs=" + node, "--jwt-secret=" + proof.Secret},
	} {
		t.Run(string(role), func(t *testing.T) {
			admin := proof.FreeAddresses(t, 1)[0]
			args = append(args, "--admin-addr="+admin, "--log-level=error")
			if role != config.Connect {
				args = append(args, "--data-dir="+filepath.Join(t.TempDir(), "data"))
			}
			options, err := roleNamed(t, role).appOptions(parse(t, role, args...))
			require.NoError(t, err)

			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var code int
			var why string
			ended := make(chan error, 1)
			go func() {
				ended <- runApp(ctx, options, fx.Invoke(func(lc fx.Lifecycle) {
					lc.Append(fx.StopHook(func() { code, why = proof.Asks(t, "http://"+admin+"/readyz") })) // the first to be stopped
				}))
			}()
			ready := "http://" + admin + "/readyz"
			require.Eventually(t, func() bool {
				code, _ := proof.Asks(t, ready)
				return code == http.StatusOK
			}, proof.Patience, 20*time.Millisecond)
			stop()
			require.NoError(t, <-ended)
			require.Equal(t, http.StatusServiceUnavailable, code)
			require.Contains(t, why, "draining")
		})
	}
}

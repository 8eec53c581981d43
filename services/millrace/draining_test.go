package main

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/infra/config"
)

// A load balancer and Kubernetes must hear that a process leaves before it takes no more.
func TestEveryRoleSaysThatItDrainsBeforeAnythingStops(t *testing.T) {
	d := startDev(t, t.TempDir())
	log, node := "--kafka-brokers="+d.brokers[0], d.grpc.Addr()
	for role, args := range map[config.Role][]string{
		config.Dev:     {"--embedded-kafka-addr=127.0.0.1:0", "--connect-addr=127.0.0.1:0", "--message-addr=127.0.0.1:0", "--jwt-secret=" + secret},
		config.Broker:  {"--embedded-kafka-addr=127.0.0.1:0"},
		config.Message: {"--message-addr=127.0.0.1:0", log},
		config.Worker:  {"--handlers=audit", log},
		config.Connect: {"--connect-addr=127.0.0.1:0", "--message-addrs=" + node, "--jwt-secret=" + secret},
	} {
		t.Run(string(role), func(t *testing.T) {
			admin := freeAddresses(t, 1)[0]
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
					lc.Append(fx.StopHook(func() { code, why = asks(t, readyURL(admin)) })) // the first to be stopped
				}))
			}()
			p := &process{name: string(role), ready: readyURL(admin)}
			p.awaitReady(t)
			stop()
			require.NoError(t, <-ended)
			require.Equal(t, http.StatusServiceUnavailable, code)
			require.Contains(t, why, "draining")
		})
	}
}

// asks answers the status and body, 0 if there is no answer. It is for any goroutine.
func asks(t *testing.T, url string) (int, string) {
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

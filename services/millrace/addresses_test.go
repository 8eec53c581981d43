package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"

	"millrace/infra/config"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// What is printed can be dialled, also where the system has chosen the ports.
func TestEndToEndTheHelloNamesWhereEachPartListens(t *testing.T) {
	besideOthers(t)
	cfg := parse(t, config.Dev, "--data-dir="+t.TempDir(), "--jwt-secret="+proof.Secret, "--log-level=error", "--admin-addr=127.0.0.1:0",
		"--embedded-kafka-addr=127.0.0.1:0", "--connect-addr=:0", "--message-addr=127.0.0.1:0")
	dev := roleNamed(t, config.Dev)
	options, err := dev.appOptions(cfg)
	require.NoError(t, err)
	var at *addresses
	var node *grpcServer
	app, err := startApp(t.Context(), options, fx.Populate(&at, &node))
	require.NoError(t, err)
	defer func() { require.NoError(t, stopApp(context.WithoutCancel(t.Context()), app)) }()
	var hello bytes.Buffer
	dev.hello(&hello, cfg, at)
	named := func(pattern string) string {
		found := regexp.MustCompile(`(?m)` + pattern).FindStringSubmatch(hello.String())
		require.NotNil(t, found, "%s in %s", pattern, hello.String())
		return found[1]
	}
	require.NotRegexp(t, `:0\b`, hello.String())

	url := named(`^  gateway +(ws://\S+)$`)
	require.Equal(t, url, named(`--target=1002 --url=(\S+)$`))
	require.Equal(t, "http"+strings.TrimSuffix(strings.TrimPrefix(url, "ws"), "ws")+"chat/", named(`^  chat +(http://\S+)$`))
	a := proof.Join(t, url, proof.Alice, nil)
	a.Sends(t, client.ToUser(proof.Bob), "hello")
	require.Equal(t, node.Addr(), named(`^  gRPC +(\S+)$`))
	brokers, err := kgo.NewClient(kgo.SeedBrokers(named(`Kafka broker on (\S+)$`)))
	require.NoError(t, err)
	require.NoError(t, brokers.Ping(t.Context()))
	brokers.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, named(`^  admin +(http://\S+)$`), http.NoBody)
	require.NoError(t, err)
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.NotEqual(t, http.StatusNotFound, answer.StatusCode)

	for _, other := range []struct {
		role config.Role
		part string
	}{{config.Broker, partBroker}, {config.Message, partGRPC}, {config.Connect, partGateway}} {
		hello.Reset()
		roleNamed(t, other.role).hello(&hello, cfg, at)
		require.Contains(t, hello.String(), at.get(other.part))
	}
}

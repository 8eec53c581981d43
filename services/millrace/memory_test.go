package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/config"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// inMemory swaps Kafka for Watermill's gochannel in any role. No broker is started, and none is connected to.
func inMemory(bus *memory.Bus) fx.Option {
	return fx.Replace(fx.Annotate(bus, fx.As(new(pubsub.Bus))))
}

// startRole runs the role until the test ends.
func startRole(t *testing.T, name config.Role, args []string, replaced ...fx.Option) {
	t.Helper()
	options, err := roleNamed(t, name).appOptions(parse(t, name, append([]string{"--admin-addr=", "--log-level=error"}, args...)...))
	require.NoError(t, err)
	app, err := startApp(t.Context(), append([]fx.Option{options}, replaced...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stopApp(context.WithoutCancel(t.Context()), app)) })
}

// A message node, a worker and a gateway run, each wired as in production except for the log.
func TestEveryRoleRunsOverTheBusInMemory(t *testing.T) {
	t.Parallel()
	bus := memory.NewBus(memory.Config{Partitions: events.DefaultPartitions})
	dir, brokers := t.TempDir(), "--kafka-brokers=127.0.0.1:1"
	audited := filepath.Join(t.TempDir(), "audit.log")
	var (
		node    *grpcServer
		gateway *gatewayServer
	)
	startRole(t, config.Message, []string{brokers, "--data-dir=" + dir, "--message-addr=127.0.0.1:0"}, inMemory(bus), fx.Populate(&node))
	startRole(t, config.Worker, []string{brokers, "--data-dir=" + t.TempDir(), "--handlers=audit", "--audit-file=" + audited}, inMemory(bus))
	startRole(t, config.Connect, []string{
		"--jwt-secret=" + proof.Secret, "--connect-addr=127.0.0.1:0", "--message-addrs=" + node.Addr(), "--push-addrs=" + node.Addr(),
	}, fx.Populate(&gateway))

	url := "ws://" + gateway.Addr() + "/ws"
	a, b := proof.Join(t, url, proof.Alice, nil), proof.Join(t, url, proof.Bob, nil)
	const messages = 20
	var want []string
	var last client.Sent
	for i := range messages {
		want = append(want, strconv.Itoa(i))
		last = a.Sends(t, client.ToUser(proof.Bob), want[i])
	}
	require.Equal(t, want, b.Reads(t, messages))
	require.Equal(t, want, contents(eventually(t, b, last.Conversation, messages)))
	require.Eventually(t, func() bool {
		lines, err := os.ReadFile(audited)
		return err == nil && bytes.Count(lines, []byte("\n")) == messages
	}, proof.Patience, 10*time.Millisecond)
}

package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/config"
	"millrace/infra/pubsub/memory"
	"millrace/services/client"
	"millrace/services/millrace/example"
	"millrace/services/millrace/proof"
)

// devInMemory runs everything in one process with what is one's own. One option replaces Kafka by Watermill's gochannel.
func devInMemory(t *testing.T, dir string, own ...fx.Option) *proof.User {
	t.Helper()
	var gateway *gatewayServer
	startRole(t, config.Dev, []string{
		"--data-dir=" + dir, "--jwt-secret=" + proof.Secret, "--connect-addr=127.0.0.1:0", "--message-addr=127.0.0.1:0",
	}, append(own, inMemory(memory.NewBus(memory.Config{})), fx.Populate(&gateway))...)
	return proof.Join(t, "ws://"+gateway.Addr()+"/ws", proof.Alice, nil)
}

func TestHandlerOfOnesOwnRunsBesideTheOthers(t *testing.T) {
	t.Parallel()
	found, dir := make(chan string, 10), t.TempDir()
	a := devInMemory(t, dir, example.Module, fx.Supply(example.Keyword{Word: "help", Found: func(id string, _ int64) error {
		found <- id
		return nil
	}}))
	a.Sends(t, client.ToUser(proof.Bob), "hello")
	first := a.Sends(t, client.ToUser(proof.Bob), "help me")
	second := a.Sends(t, client.ToUser(proof.Bob), "help him")
	require.Equal(t, []string{first.MessageID, second.MessageID}, []string{<-found, <-found})
	require.NoDirExists(t, filepath.Join(dir, "kafka"), "no broker was started")
}

func TestMiddlewareOfOnesOwnSeesTheRecordsOfAllHandlers(t *testing.T) {
	t.Parallel()
	said := &journal{}
	a := devInMemory(t, t.TempDir(), fx.Provide(asMiddleware(func() message.HandlerMiddleware {
		return example.Slow(0, slog.New(slog.NewTextHandler(said, nil)))
	})))
	a.Sends(t, client.ToUser(proof.Alice), "note")
	require.Equal(t, []string{"note"}, a.Reads(t, 1))
	for _, handler := range []string{"audit", "push", "storage"} {
		require.Eventually(t, func() bool { return strings.Contains(said.String(), "handler="+handler) }, proof.Patience, 10*time.Millisecond)
	}
}

// A consumer in another process needs nothing but the brokers' address, and goes on where it was.
func TestConsumerOfAnotherProcessGetsEveryMessageAndGoesOnWhereItWas(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := proof.Join(t, d.url(), proof.Alice, nil)
	consume := func() (contents <-chan string, stop func()) {
		got, ended := make(chan string, 10), make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			ended <- example.Consume(ctx, d.brokers, "acme", func(e events.Event) error {
				got <- e.Message.Content
				return nil
			}, watermill.NopLogger{})
		}()
		return got, func() {
			cancel()
			require.NoError(t, <-ended)
		}
	}
	a.Sends(t, client.ToUser(proof.Bob), "one")
	contents, stop := consume()
	a.Sends(t, client.ToUser(proof.Bob), "two")
	require.Equal(t, []string{"one", "two"}, []string{<-contents, <-contents})
	stop()
	a.Sends(t, client.ToUser(proof.Bob), "three")
	contents, stop = consume()
	next := <-contents
	if next == "two" { // it was stopped before this one was acknowledged
		next = <-contents
	}
	require.Equal(t, "three", next)
	stop()
}

package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/oracle"
)

// Every message is sent five times at once over both gateways, and both message nodes, and again after each process that
// could remember it was killed: it is stored once and shown once.
func TestHarmSameSendFiveTimesOverEverything(t *testing.T) {
	needsHarm(t)
	const messages, times = 40, 5
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*healing)
	defer cancel()
	journal := oracle.New()
	conversation := events.Direct(alice, bob)
	journal.Members(conversation, alice, bob)
	reader := &talker{id: bob, url: c.gateways[1], journal: journal}
	require.NoError(t, reader.connect(ctx))
	writer := &talker{id: alice, url: c.gateways[0], journal: journal}
	require.NoError(t, writer.connect(ctx))
	other, err := client.Dial(ctx, client.Config{URL: c.gateways[1], Token: token(alice)})
	require.NoError(t, err)

	for i := range messages {
		journal.Sent(conversation, alice, fmt.Sprint(i))
	}
	sendAll := func() {
		for i := range messages {
			id := fmt.Sprint(i)
			var all errgroup.Group
			for n := range times {
				over := []*client.Client{writer.client, other}[n%2]
				all.Go(func() error {
					sent, err := over.Send(ctx, client.Send{Target: client.ToUser(bob), Content: id, ClientMsgID: id})
					journal.Acked(conversation, alice, id, sent.MessageID)
					return err
				})
			}
			require.NoError(t, all.Wait())
		}
	}
	sendAll()
	for _, name := range []string{"message-1", "message-2"} {
		sends := c.named(name).metric(t, "millrace_publish_records_total", `topic="message-events"`)
		t.Logf("%s has published %.0f of %d", name, sends, messages*times)
		require.Positive(t, sends, name)
	}
	for _, name := range []string{"message-1", "message-2", "connect-1", "connect-2"} {
		c.named(name).kill()
	}
	for _, name := range []string{"message-1", "message-2", "connect-1", "connect-2"} {
		c.named(name).start(t)
	}
	sendAll()
	require.NoError(t, writer.say(ctx, client.ToUser(bob), "the end"))
	require.NoError(t, writer.untilWhole(ctx, conversation))
	require.Empty(t, journal.Check())
	require.Equal(t, messages+1, journal.AckedCount())
	for _, who := range []*client.Client{writer.client, other, reader.client} {
		require.NoError(t, who.Close())
	}
	c.stopAll()
}

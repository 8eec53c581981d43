package proof

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof/oracle"
)

// Every message is sent five times at once over both gateways and both message nodes, and again after each process that could
// remember it was killed. It is stored once and pushed once.
func TestHarmSameSendFiveTimesOverEverything(t *testing.T) {
	NeedsHarm(t)
	const messages, times = 40, 5
	c := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*Healing)
	defer cancel()
	journal := oracle.New()
	conversation := events.Direct(Alice, Bob)
	journal.Members(conversation, Alice, Bob)
	reader := &talker{ID: Bob, url: c.gateways[1], journal: journal}
	require.NoError(t, reader.connect(ctx))
	writer := &talker{ID: Alice, url: c.gateways[0], journal: journal}
	require.NoError(t, writer.connect(ctx))
	other, err := client.Dial(ctx, client.Config{URL: c.gateways[1], Token: Token(Alice)})
	require.NoError(t, err)

	for i := range messages {
		journal.Sent(conversation, oracle.Message{From: Alice, ClientMsgID: fmt.Sprint(i), Content: fmt.Sprint(i)})
	}
	sendAll := func() {
		for i := range messages {
			id := fmt.Sprint(i)
			var all errgroup.Group
			for n := range times {
				over := []*client.Client{writer.Client, other}[n%2]
				all.Go(func() error {
					sent, err := over.Send(ctx, client.Send{Target: client.ToUser(Bob), Content: id, ClientMsgID: id})
					journal.Acked(conversation, Alice, id, sent.MessageID)
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
	require.NoError(t, writer.Say(ctx, client.ToUser(Bob), "the end"))
	require.NoError(t, writer.untilWhole(ctx, conversation))
	require.Empty(t, journal.Check())
	require.Equal(t, messages+1, journal.AckedCount())
	for _, who := range []*client.Client{writer.Client, other, reader.Client} {
		require.NoError(t, who.Close())
	}
	c.stopAll()
}

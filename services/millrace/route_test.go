package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/handlertest"
	"millrace/handlers/route"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func openRoute(t *testing.T) handlertest.Subject {
	bus := memory.NewBus(memory.Config{Partitions: events.DefaultPartitions})
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	const name = "vip"
	log := bus.Log(events.RouteTopic(name))
	subject := handlertest.Subject{
		Handler: route.Handler(newCopies(bus)),
		Headers: map[string]string{events.RoutesHeader: name},
		// A consumer recognises a copy that was made again by its origin.
		Done: func(t *testing.T) (done []int64) {
			end, err := log.End(t.Context())
			require.NoError(t, err)
			p := handlertest.Partition()
			require.NoError(t, log.Read(t.Context(), []events.Range{{Partition: p, Through: end[p]}}, func(r pubsub.RawRecord) error {
				origin, err := events.ParsePosition(r.Headers.Get(events.OriginHeader))
				require.NoError(t, err)
				if !slices.Contains(done, origin.Seq) {
					done = append(done, origin.Seq)
				}
				return nil
			}))
			return done
		},
	}
	subject.TakeOver = func(*testing.T) handlertest.Subject { return subject }
	return subject
}

// copied notes the records that a handler of a route gets.
type copied struct {
	mu      sync.Mutex
	records []events.Record
}

func (c *copied) handler() events.Handler {
	return events.Handler{
		Name: "vip-inbox", Topic: events.RouteTopic("vip"), Group: "vip-inbox-consumer-group",
		Handle: func(_ context.Context, r events.Record) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.records = append(c.records, r)
			return nil
		},
	}
}

func (c *copied) contents() (contents []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.records {
		contents = append(contents, r.Content)
		if r.Message != nil {
			contents[len(contents)-1] = r.Message.Content
		}
	}
	return contents
}

func TestEndToEndRulesRouteToFurtherTopicsAndAHandlerReadsOne(t *testing.T) {
	besideOthers(t)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	write := func(rules string) { require.NoError(t, os.WriteFile(file, []byte(rules), 0o600)) }
	const vip = `{name: vip, when: content startsWith "vip", route: vip}`
	write("rules: [" + vip + "]")
	inbox := &copied{}
	d := startDevAs(t, t.TempDir(), []string{"--rules=" + file, "--handlers=storage,push,route"},
		fx.Provide(fx.Annotate(inbox.handler, fx.ResultTags(`group:"handlers"`))))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	to := client.ToUser(proof.Bob)
	a.Sends(t, to, "hello")
	sent := a.Sends(t, to, "vip one")
	require.Equal(t, []string{"hello", "vip one"}, b.Reads(t, 2))
	eventually(t, a, sent.Conversation, 2)
	_, err := a.Call(t.Context(), client.Edit{Conversation: sent.Conversation, MessageID: sent.MessageID, Content: "vip uno"})
	require.NoError(t, err)
	proof.Await(t, func() bool { return slices.Equal(inbox.contents(), []string{"vip one", "vip uno"}) }, "copies of the message and of its edit")
	inbox.mu.Lock()
	first := inbox.records[0]
	inbox.mu.Unlock()
	require.Equal(t, sent.MessageID, first.Message.MessageID)
	require.Equal(t, first.Message.MessageID, first.EventID)
	log := consume(t, d.brokers, events.TopicMessages, 3)
	original := log[slices.IndexFunc(log, func(r *kgo.Record) bool { return headerOf(r, events.RoutesHeader) != "" })]
	require.Equal(t, events.Position{Partition: original.Partition, Seq: events.Seq(0, original.Offset)}, first.Origin)
	require.Equal(t, original.Value, first.Value)

	// A route that a changed file names gets its topic before the first record is routed.
	write("rules: [" + vip + `, {name: eu, when: content startsWith "eu", route: eu}]`)
	proof.Await(t, func() bool {
		a.Sends(t, to, "eu")
		return slices.ContainsFunc(consume(t, d.brokers, events.TopicMessages, 4), func(r *kgo.Record) bool {
			return headerOf(r, events.RoutesHeader) == "eu"
		})
	}, "the changed rules are not taken")
	copied := consume(t, d.brokers, events.RouteTopic("eu"), 1)[0]
	require.Equal(t, "u:1001:1002", string(copied.Key))
	require.NotEmpty(t, headerOf(copied, events.OriginHeader))
	require.NotEmpty(t, d.brokers)
}

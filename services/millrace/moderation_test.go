package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/handlertest"
	"millrace/handlers/moderation"
	"millrace/infra/config"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// standAll takes every message as it is.
type standAll struct{ admitAll }

func (standAll) Stands(context.Context, *events.Record) bool { return true }

func openModeration(t *testing.T) handlertest.Subject {
	bus := memory.NewBus(memory.Config{Partitions: events.DefaultPartitions})
	t.Cleanup(func() { require.NoError(t, bus.Close()) })
	subject := handlertest.Subject{
		Handler: moderation.Handler(standAll{}, newFloods(nil, bus), newRecalls(bus)),
		Headers: map[string]string{events.RecallHeader: "spam"},
		// A consumer recognises a recall that was published again by its event id.
		Done: func(t *testing.T) (done []int64) {
			ids := map[string]int{}
			for _, e := range recallsOn(t, bus) {
				if ids[e.EventID]++; ids[e.EventID] == 1 && e.Type == events.MessageRecalled {
					done = append(done, e.MessageSeq)
				}
			}
			require.Len(t, ids, 2*len(done), "with each recall its sender is told")
			return done
		},
	}
	subject.TakeOver = func(*testing.T) handlertest.Subject {
		subject.Handler = moderation.Handler(standAll{}, newFloods(nil, bus), newRecalls(bus))
		return subject
	}
	return subject
}

// recallsOn returns what moderation has published in the partition of the suite. The records are not those that it is about, so
// they are not valid at their positions.
func recallsOn(t *testing.T, bus pubsub.Bus) (all []events.Event) {
	t.Helper()
	log := bus.Log(events.TopicMessages)
	end, err := log.End(t.Context())
	require.NoError(t, err)
	p := handlertest.Partition()
	require.NoError(t, log.Read(t.Context(), []events.Range{{Partition: p, Through: end[p]}}, func(r pubsub.RawRecord) error {
		var e events.Event
		require.NoError(t, jsonv2.Unmarshal(r.Value, &e))
		all = append(all, e)
		return nil
	}))
	return all
}

// The sender and the receiver are on two gateways, and moderation runs in a process of its own, which is away for a while.
func TestEndToEndModerationRecallsWhatRulesSayAndFloods(t *testing.T) {
	besideOthers(t)
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte(`
rules: [{name: spam, when: content contains "spam", recall: no advertising}]
floods: [{name: echo, per: content, more_than: 2, within: 1h, recall: you have said that}]
`), 0o600))
	dir := t.TempDir()
	d := startDevAs(t, dir, []string{"--rules=" + rules})
	moderate := func() (stop func()) {
		return startInside(t, config.Worker, fx.Options(), "--handlers=moderation", "--rules="+rules, "--data-dir="+dir,
			"--kafka-brokers="+strings.Join(d.brokers, ","))
	}
	stop := moderate()
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, startSecondGateway(t, d), proof.Bob, nil)
	to := client.ToUser(proof.Bob)
	moderated := func(sent client.Sent, reason string) {
		t.Helper()
		recalled, told := b.Sees(t, "message_recalled"), a.Sees(t, "message_moderated")
		require.Equal(t, sent.MessageID, recalled.MessageID)
		require.Equal(t, sent.MessageID, told.MessageID)
		require.Equal(t, reason, told.Reason)
		require.Equal(t, recalled.Seq, told.Seq)
		require.Empty(t, told.Pos)
	}
	recalled := map[string]bool{}
	recall := func(sent client.Sent, reason string) {
		t.Helper()
		recalled[sent.MessageID] = true
		moderated(sent, reason)
	}
	a.Sends(t, to, "hello")
	recall(a.Sends(t, to, "buy spam"), "no advertising")
	edited := a.Sends(t, to, "eggs")
	eventually(t, a, edited.Conversation, 3)
	require.NoError(t, a.Do(t.Context(), client.Edit{Conversation: edited.Conversation, MessageID: edited.MessageID, Content: "spam and eggs"}))
	recall(edited, "no advertising")

	a.Sends(t, to, "echo")
	stop() // what is sent meanwhile is delivered, and judged later by who knows nothing of what was before
	a.Sends(t, to, "echo")
	const owned = "spam that its author recalls"
	third, own := a.Sends(t, to, "echo"), a.Sends(t, to, owned)
	require.Equal(t, []string{"echo", "echo", "echo", owned}, b.Reads(t, 4))
	require.NoError(t, a.Do(t.Context(), client.Recall{Conversation: own.Conversation, MessageID: own.MessageID}))
	require.Equal(t, own.MessageID, b.Sees(t, "message_recalled").MessageID)
	recalled[own.MessageID] = true
	proof.Await(t, func() bool { return isRecalled(t, a, own) }, "the author's recall is stored")
	stop = moderate()
	defer stop()
	recall(third, "you have said that")
	recall(a.Sends(t, to, "echo"), "you have said that")

	a.Sends(t, to, "the end")
	require.Equal(t, []string{"the end"}, b.Reads(t, 1))
	for _, u := range []*proof.User{a, b} {
		proof.Await(t, func() bool {
			for _, m := range eventually(t, u, own.Conversation, 9) {
				if recalled[m.MessageID] != m.Recalled {
					return false
				}
			}
			return true
		}, "the history shows as recalled what was, and nothing else")
	}
	for _, u := range []*proof.User{a, b} {
		for len(u.Seen()) > 0 {
			require.NotEqual(t, events.MessageModerated, (<-u.Seen()).Type, "nobody else is told, and nobody is told twice")
		}
	}
	require.Zero(t, proof.Poisoned(t, d.brokers))
}

func isRecalled(t *testing.T, u *proof.User, sent client.Sent) bool {
	t.Helper()
	page, err := u.History(t.Context(), client.History{Conversation: sent.Conversation, Limit: 200})
	require.NoError(t, err)
	return slices.ContainsFunc(page.Messages, func(m client.Message) bool { return m.MessageID == sent.MessageID && m.Recalled })
}

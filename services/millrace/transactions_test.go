package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// transaction makes a foreign producer send a message in a transaction, which leaves a marker after it.
func transaction(t *testing.T, producer *kgo.Client, content string, how kgo.TransactionEndTry) {
	t.Helper()
	require.NoError(t, producer.BeginTransaction())
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{
		Topic: events.TopicMessages, Key: []byte("u:1001:1002"),
		Value: []byte(`{"type":"new_message","message":{"client_msg_id":"one","conversation":"u:1001:1002","from":1001,"to":1002,` +
			`"content":"` + content + `","message_type":1,"timestamp":5},"timestamp":5}`),
	}).FirstErr())
	require.NoError(t, producer.EndTransaction(t.Context(), how))
}

func TestEndToEndOnlyWhatAForeignTransactionCommitsIsSaidAndItsMarkerHoldsUpNobody(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	var bus pubsub.Bus
	d := startDevWith(t, dir, fx.Populate(&bus))
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	producer, err := kgo.NewClient(kgo.SeedBrokers(d.brokers...), kgo.TransactionalID("foreign"))
	require.NoError(t, err)
	defer producer.Close()
	transaction(t, producer, "aborted", kgo.TryAbort)
	transaction(t, producer, "committed", kgo.TryCommit)
	require.Equal(t, []string{"committed"}, b.Reads(t, 1))
	require.Equal(t, []string{"committed"}, contents(eventually(t, b, "u:1001:1002", 1)))
	unknownIsNotFound := func() {
		t.Helper()
		err := a.Do(t.Context(), client.Recall{MessageID: "unknown", Conversation: "u:1001:1002"})
		var refused *client.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, client.NotFound, refused.Code)
	}
	unknownIsNotFound()
	hasNoLag(t, bus)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	d.stop()

	d = startDevWith(t, dir, fx.Populate(&bus))
	a = proof.Join(t, d.url(), proof.Alice, nil)
	unknownIsNotFound()
	hasNoLag(t, bus)
	begin := time.Now()
	conversations, err := a.Conversations(t.Context(), client.Conversations{})
	require.NoError(t, err)
	require.Len(t, conversations.Conversations, 1)
	t.Log("conversations took", time.Since(begin))
}

// What was accepted behind an open transaction cannot be read yet, so nobody may say that there is no such message.
func TestEndToEndAMessageBehindAnOpenTransactionIsUnavailableAndNotUnknown(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	producer, err := kgo.NewClient(kgo.SeedBrokers(d.brokers...), kgo.TransactionalID("left-open"))
	require.NoError(t, err)
	defer producer.Close()
	require.NoError(t, producer.BeginTransaction())
	require.NoError(t, producer.ProduceSync(t.Context(), &kgo.Record{
		Topic: events.TopicMessages, Key: []byte("u:1001:1002"), Value: []byte("undecodable"),
	}).FirstErr())
	w := dialWire(t, d.url())
	sent := *w.answer(w.write(fmt.Sprintf(`"send":{"to":%d,"content":"behind"}`, proof.Bob))).Sent
	for _, change := range []string{edit(sent, "edited"), recall(sent)} {
		refused := w.answer(w.write(change)).Error
		require.NotNil(t, refused)
		require.Equal(t, client.Unavailable, refused.Code)
	}
	require.NoError(t, producer.EndTransaction(t.Context(), kgo.TryAbort))
	require.Eventually(t, func() bool { return w.answer(w.write(recall(sent))).Error == nil }, proof.Patience, 10*time.Millisecond)
}

// hasNoLag waits until every handler has reached the end of the log.
func hasNoLag(t *testing.T, bus pubsub.Bus) {
	t.Helper()
	log := bus.Log(events.TopicMessages)
	for _, group := range []string{"storage-consumer-group", "push-consumer-group", "audit-consumer-group"} {
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), proof.Patience)
			defer cancel()
			end, err := log.End(ctx)
			require.NoError(t, err)
			committed, err := log.Committed(ctx, group)
			require.NoError(t, err)
			for p, seq := range end {
				if committed[p] < seq {
					return false
				}
			}
			return true
		}, proof.Patience, 10*time.Millisecond)
	}
}

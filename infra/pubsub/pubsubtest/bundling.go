package pubsubtest

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/infra/pubsub"
)

type readersKey struct{}

func bundleIsInOrder(t *testing.T, f Factory) {
	const most = 7
	sent := series(f.keyIn(0), 50)
	f.publish(t, sent...)
	r := f.join(t, "bundles", pubsub.SubscriberConfig{Bundle: most})
	var got []*message.Message
	for len(got) < len(sent) {
		msg := r.next()
		msg.SetContext(context.WithValue(msg.Context(), readersKey{}, "the reader's"))
		records := f.Bus.Records(msg)
		require.LessOrEqual(t, len(records), most)
		for _, record := range records {
			require.Equal(t, "the reader's", record.Context().Value(readersKey{}), "made from the message's context")
			require.Equal(t, position(t, f, sent[len(got)]), r.position(record).Seq)
			require.Equal(t, sent[len(got)].Metadata, record.Metadata)
			got = append(got, record)
			record.Ack()
		}
		msg.Ack()
	}
	require.Equal(t, payloads(sent), payloads(got))
}

func bundleComesAgain(t *testing.T, f Factory) {
	key := f.keyIn(0)
	f.publish(t, series(key, 8)...)
	r := f.join(t, "bundle", pubsub.SubscriberConfig{Bundle: 100})
	// The first bundle may have fewer records than were published, so the last one is taken.
	msg := r.next()
	for len(f.Bus.Records(msg)) < 5 {
		for _, record := range f.Bus.Records(msg) {
			record.Ack()
		}
		msg.Ack()
		f.publish(t, series(key, 8)...)
		msg = r.next()
	}
	records := f.Bus.Records(msg)
	for _, record := range records[:3] {
		record.Ack()
	}
	msg.Nack()
	again := r.next()
	left := f.Bus.Records(again)
	require.Equal(t, payloads(records[3:]), payloads(left))
	require.Equal(t, left, f.Bus.Records(again), "asked again, the same ones")
	require.Eventually(t, func() bool {
		return f.committed(t, "bundle")[0] == r.position(records[2]).Seq
	}, patience, 10*time.Millisecond, "what was acknowledged is committed")

	// The rest comes also after a restart in the middle of a bundle.
	left[0].Ack()
	closed := make(chan error, 1)
	go func() { closed <- r.sub.Close() }()
	select {
	case <-again.Context().Done():
	case <-time.After(patience):
		require.FailNow(t, "the bundle is not told that it is being taken away")
	}
	again.Nack()
	require.NoError(t, <-closed)
	next := f.Bus.Records(f.join(t, "bundle", pubsub.SubscriberConfig{Bundle: 100}).next())
	require.Equal(t, r.position(left[1]), r.position(next[0]))
}

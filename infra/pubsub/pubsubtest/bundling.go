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
		records := pubsub.BundleOf(msg).Records
		require.NotEmpty(t, records)
		require.LessOrEqual(t, len(records), most)
		for i := range records {
			own := records[i].Message(context.WithValue(msg.Context(), readersKey{}, "the reader's"))
			require.Equal(t, "the reader's", own.Context().Value(readersKey{}))
			want := sent[len(got)]
			require.Equal(t, position(t, f, want), records[i].Seq)
			require.Equal(t, records[i].Position, r.position(own))
			require.Equal(t, want.UUID, own.UUID)
			require.Equal(t, want.Metadata, own.Metadata)
			require.Equal(t, want.Metadata.Get(pubsub.KeyHeader), string(records[i].Key))
			require.False(t, records[i].Replay)
			got = append(got, own)
		}
		msg.Ack()
	}
	require.Equal(t, payloads(sent), payloads(got))
}

func bundleSaysWhatIsAReplay(t *testing.T, f Factory) {
	msg := keyed(f.keyIn(0), 0)
	msg.Metadata.Set(pubsub.ReplayHandlerHeader, "storage")
	f.publish(t, msg)
	got := f.join(t, "replays", pubsub.SubscriberConfig{Bundle: 2}).next()
	require.True(t, pubsub.BundleOf(got).Records[0].Replay)
	got.Ack()
}

func bundleComesAgain(t *testing.T, f Factory) {
	key := f.keyIn(0)
	f.publish(t, series(key, 8)...)
	r := f.join(t, "bundle", pubsub.SubscriberConfig{Bundle: 100})
	// The first bundle may have fewer records than were published, so the last one is taken.
	msg := r.next()
	for len(pubsub.BundleOf(msg).Records) < 6 {
		msg.Ack()
		f.publish(t, series(key, 8)...)
		msg = r.next()
	}
	bundle := pubsub.BundleOf(msg)
	records := bundle.Records
	bundle.Done(3)
	msg.Nack()
	msg = r.next()
	bundle = pubsub.BundleOf(msg)
	require.Equal(t, records[3:], bundle.Records)
	require.Eventually(t, func() bool {
		return f.committed(t, "bundle")[0] == records[2].Seq
	}, patience, 10*time.Millisecond, "what was acknowledged is committed")
	bundle.Done(1)
	msg.Nack()
	again := r.next()
	left := pubsub.BundleOf(again)
	require.Equal(t, records[4:], left.Records)

	// The rest comes also after a restart in the middle of a bundle.
	left.Done(1)
	closed := make(chan error, 1)
	go func() { closed <- r.sub.Close() }()
	select {
	case <-again.Context().Done():
	case <-time.After(patience):
		require.FailNow(t, "the bundle is not told that it is being taken away")
	}
	again.Nack()
	require.NoError(t, <-closed)
	next := pubsub.BundleOf(f.join(t, "bundle", pubsub.SubscriberConfig{Bundle: 100}).next())
	require.Equal(t, records[5].Position, next.Records[0].Position)
}

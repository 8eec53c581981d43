package pubsubtest

import (
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/infra/pubsub"
)

func keyHasOnePartition(t *testing.T, f Factory) {
	var msgs []*message.Message
	for i := range 40 {
		msgs = append(msgs, keyed(fmt.Sprintf("u:%d:%d", i, 2*i), i))
	}
	f.publish(t, msgs...)
	n := f.Bus.Log(f.Topic).Partitions()
	used := make(map[int32]bool)
	for _, r := range f.read(t) {
		require.Equal(t, events.Partition(string(r.Key), n), r.Partition, "key %s", r.Key)
		used[r.Partition] = true
	}
	require.Greater(t, len(used), 1, "all keys in one partition")
	for _, msg := range msgs {
		pos, err := f.Bus.Position(msg)
		require.NoError(t, err)
		require.Equal(t, events.Partition(msg.Metadata.Get(pubsub.KeyHeader), n), pos.Partition)
	}
}

func keysKeepOrder(t *testing.T, f Factory) {
	const keys, each = 6, 30
	var mixed []*message.Message
	for i := range each {
		for k := range keys {
			mixed = append(mixed, keyed(fmt.Sprintf("key-%d", k), i))
		}
	}
	f.publish(t, mixed[:len(mixed)/2]...)
	f.publish(t, mixed[len(mixed)/2:]...)
	requireSeries(t, f.join(t, "order", pubsub.SubscriberConfig{}).take(keys*each), keys, each)
}

func concurrentPublishers(t *testing.T, f Factory) {
	const keys, batches, each = 12, 10, 7
	var publishing errgroup.Group
	for k := range keys {
		publishing.Go(func() error {
			msgs := series(fmt.Sprintf("key-%d", k), batches*each)
			for b := range batches {
				if err := f.Bus.Publisher().Publish(f.Topic, msgs[b*each:(b+1)*each]...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, publishing.Wait())
	require.Len(t, f.read(t), keys*batches*each)
	requireSeries(t, f.join(t, "concurrent", pubsub.SubscriberConfig{}).take(keys*batches*each), keys, batches*each)
}

// requireSeries requires every key's messages from 0 on, in order, each once.
func requireSeries(t *testing.T, msgs []*message.Message, keys, each int) {
	t.Helper()
	byKey := make(map[string][]string)
	for _, msg := range msgs {
		key := msg.Metadata.Get(pubsub.KeyHeader)
		byKey[key] = append(byKey[key], string(msg.Payload))
	}
	require.Len(t, byKey, keys)
	for key, got := range byKey {
		require.Equal(t, payloads(series(key, each)), got)
	}
}

func messagesArriveWhole(t *testing.T, f Factory) {
	sent := message.NewMessage("an-id", []byte{0, 255, '\n', 'x'})
	sent.Metadata = message.Metadata{pubsub.KeyHeader: "u:1:2", "type": "new_message", "empty": "", "region": "東京"}
	f.publish(t, sent)
	got := f.join(t, "whole", pubsub.SubscriberConfig{}).take(1)[0]
	require.Equal(t, sent.UUID, got.UUID)
	require.Equal(t, sent.Payload, got.Payload)
	require.Equal(t, sent.Metadata, got.Metadata)
	raw := f.read(t)
	require.Len(t, raw, 1)
	require.Equal(t, "u:1:2", string(raw[0].Key))
	require.Equal(t, []byte(sent.Payload), raw[0].Value)
}

func keylessArrives(t *testing.T, f Factory) {
	sent := message.NewMessage("an-id", []byte("x"))
	f.publish(t, sent)
	got := f.join(t, "keyless", pubsub.SubscriberConfig{}).take(1)[0]
	require.Equal(t, sent.Payload, got.Payload)
	require.NotContains(t, got.Metadata, pubsub.KeyHeader)
}

func closedBusRefuses(t *testing.T, f Factory) {
	f.publish(t) // nothing, which is fine
	require.NoError(t, f.Bus.Close())
	err := f.Bus.Publisher().Publish(f.Topic, series("key", 3)...)
	var refused *pubsub.PublishError
	require.ErrorAs(t, err, &refused)
	require.Zero(t, refused.Accepted)
	require.ErrorIs(t, err, pubsub.ErrClosed)
}

package pubsubtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
)

func refusedComesAgain(t *testing.T, f Factory) {
	f.publish(t, series("key", 3)...)
	r := f.join(t, "again", pubsub.SubscriberConfig{})
	var seen []string
	for range 3 {
		msg := r.next()
		seen = append(seen, string(msg.Payload))
		msg.Nack()
	}
	seen = append(seen, payloads(r.take(3))...)
	require.Equal(t, []string{"key/0", "key/0", "key/0", "key/0", "key/1", "key/2"}, seen)
}

func refusedHoldsOnePartition(t *testing.T, f Factory) {
	bad, good := f.keyIn(0), f.keyIn(1)
	f.publish(t, series(bad, 2)...)
	f.publish(t, series(good, 20)...)
	r := f.join(t, "holds", pubsub.SubscriberConfig{})
	var others []string
	for len(others) < 20 {
		msg := r.next()
		if msg.Metadata.Get(pubsub.KeyHeader) == bad {
			require.Equal(t, bad+"/0", string(msg.Payload))
			msg.Nack()
			continue
		}
		others = append(others, string(msg.Payload))
		msg.Ack()
	}
	require.Equal(t, payloads(series(good, 20)), others)
	require.Equal(t, payloads(series(bad, 2)), payloads(r.take(2)))
}

func groupsAreIndependent(t *testing.T, f Factory) {
	f.publish(t, series("key", 10)...)
	stuck := f.join(t, "stuck", pubsub.SubscriberConfig{})
	held := stuck.next()
	require.Equal(t, payloads(series("key", 10)), payloads(f.join(t, "free", pubsub.SubscriberConfig{}).take(10)))
	held.Ack()
	require.Equal(t, payloads(series("key", 10)[1:]), payloads(stuck.take(9)))
	require.Equal(t, payloads(series("key", 10)), payloads(f.join(t, "late", pubsub.SubscriberConfig{}).take(10)))
}

func groupGoesOn(t *testing.T, f Factory) {
	f.publish(t, series("key", 6)...)
	first := f.join(t, "restart", pubsub.SubscriberConfig{})
	first.take(4)
	first.close()
	f.publish(t, keyed("key", 6))
	second := f.join(t, "restart", pubsub.SubscriberConfig{})
	require.Equal(t, payloads(series("key", 7)[4:]), payloads(second.take(3)))
}

func groupGoesBack(t *testing.T, f Factory) {
	key := f.keyIn(1)
	f.publish(t, series(key, 6)...)
	first := f.join(t, "back", pubsub.SubscriberConfig{})
	taken := first.take(5)
	first.close()
	kept := f.committed(t, "back")
	kept[1] = first.position(taken[1]).Seq
	c := newCalls(t)
	hooks := c.config()
	hooks.Progress = func(context.Context) (map[int32]int64, error) { return kept, nil }
	second := f.join(t, "back", hooks)
	require.Equal(t, payloads(series(key, 6)[2:]), payloads(second.take(4)))
	second.close()

	// It does not matter that the handler has more than was committed, and a partition that it knows nothing of begins anew.
	kept = map[int32]int64{1: f.end(t)[1]}
	f.publish(t, keyed(key, 6))
	third := f.join(t, "back", hooks)
	require.Equal(t, []string{key + "/6"}, payloads(third.take(1)))
	third.close()
	kept = nil
	fourth := f.join(t, "back", hooks)
	require.Equal(t, payloads(series(key, 7)), payloads(fourth.take(7)))
}

func unacknowledgedComesAgain(t *testing.T, f Factory) {
	f.publish(t, series("key", 3)...)
	first := f.join(t, "unacknowledged", pubsub.SubscriberConfig{})
	first.take(1)
	first.next().Nack()
	first.close()
	second := f.join(t, "unacknowledged", pubsub.SubscriberConfig{})
	require.Equal(t, []string{"key/1", "key/2"}, payloads(second.take(2)))
}

// calls notes assignments. It fails the test if calls for a partition overlap or do not alternate.
type calls struct {
	t  *testing.T
	mu sync.Mutex
	// held are the partitions that are assigned now, with their positions. released counts.
	held     map[int32]int64
	released int
	changed  chan struct{}
}

func newCalls(t *testing.T) *calls {
	return &calls{t: t, held: make(map[int32]int64), changed: make(chan struct{})}
}

func (c *calls) config() pubsub.SubscriberConfig {
	return pubsub.SubscriberConfig{
		Assigned: func(after events.Position) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if _, ok := c.held[after.Partition]; ok {
				c.t.Errorf("partition %d assigned twice", after.Partition)
			}
			c.held[after.Partition] = after.Seq
			c.notify()
		},
		Released: func(partition int32) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if _, ok := c.held[partition]; !ok {
				c.t.Errorf("partition %d released but not assigned", partition)
			}
			delete(c.held, partition)
			c.released++
			c.notify()
		},
	}
}

func (c *calls) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// await returns when the condition holds for the assignments.
func (c *calls) await(what string, holds func(held map[int32]int64, released int) bool) {
	c.t.Helper()
	giveUp := time.After(patience)
	for {
		c.mu.Lock()
		ok, changed := holds(c.held, c.released), c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-giveUp:
			require.FailNow(c.t, "gave up waiting", what)
		}
	}
}

func assignmentsFrameMessages(t *testing.T, f Factory) {
	partitions := int(f.Bus.Log(f.Topic).Partitions())
	key := f.keyIn(1)
	f.publish(t, series(key, 3)...)

	c := newCalls(t)
	first := f.join(t, "assigned", c.config())
	msg := first.next()
	c.await("all assigned", func(held map[int32]int64, _ int) bool { return len(held) == partitions })
	require.Less(t, c.held[1], first.position(msg).Seq, "assigned after its first message")
	msg.Ack()
	acknowledged := first.position(first.take(1)[0])
	third := first.next()
	third.Nack()
	first.close()
	c.await("all released", func(held map[int32]int64, released int) bool {
		return len(held) == 0 && released == partitions
	})

	c = newCalls(t)
	second := f.join(t, "assigned", c.config())
	require.Equal(t, []string{key + "/2"}, payloads(second.take(1)))
	c.await("all assigned", func(held map[int32]int64, _ int) bool { return len(held) == partitions })
	require.Equal(t, acknowledged.Seq, c.held[1])
}

func closedSubscriberRefuses(t *testing.T, f Factory) {
	r := f.join(t, "closed", pubsub.SubscriberConfig{})
	r.close()
	r.close()
	_, err := r.sub.Subscribe(t.Context(), f.Topic)
	require.Error(t, err)
	_, open := <-r.in
	require.False(t, open, "the channel of messages stays open")
}

package pubsubtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/infra/pubsub"
)

// sessionTimeout is the longest time for which a member may hold up the others.
const sessionTimeout = 6 * time.Second

func rebalanceWhileRefusing(t *testing.T, f Factory) {
	if f.NoRebalance != "" {
		t.Skip(f.NoRebalance)
	}
	partitions := int(f.Bus.Log(f.Topic).Partitions())
	bad := f.keyIn(0)
	f.publish(t, keyed(bad, 0))

	var mu sync.Mutex
	refuse, handled := true, make(map[string]bool)
	seen := make(chan struct{}, 1000)
	handle := func(r *reader) {
		for msg := range r.in {
			mu.Lock()
			refused := refuse && msg.Metadata.Get(pubsub.KeyHeader) == bad
			if !refused {
				handled[string(msg.Payload)] = true
			}
			mu.Unlock()
			if refused {
				msg.Nack()
			} else {
				msg.Ack()
			}
			select {
			case seen <- struct{}{}:
			default:
			}
		}
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			mu.Lock()
			done := ok()
			mu.Unlock()
			if done {
				return
			}
			select {
			case <-seen:
			case <-ctx.Done():
				require.FailNow(t, "gave up waiting", what)
			}
		}
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	one, two := newCalls(t), newCalls(t)
	first := f.join(t, "rebalance", one.config())
	defer first.close()
	reading.Go(func() { handle(first) })
	one.await("first member has all", func(held map[int32]int64, _ int) bool { return len(held) == partitions })
	await("refused at least once", func() bool { return true })

	joined := time.Now()
	second := f.join(t, "rebalance", two.config())
	defer second.close()
	reading.Go(func() { handle(second) })
	two.await("second member has some", func(held map[int32]int64, _ int) bool { return len(held) > 0 })
	one.await("first member has the others", func(held map[int32]int64, released int) bool {
		return released == partitions && len(held) > 0
	})
	for p := 1; p < partitions; p++ {
		f.publish(t, keyed(f.keyIn(int32(p)), 0))
	}
	await("other partitions are handled", func() bool { return len(handled) == partitions-1 })
	require.Less(t, time.Since(joined), sessionTimeout, "the refused message held up the group")

	mu.Lock()
	refuse = false
	mu.Unlock()
	await("the refused message is handled in the end", func() bool { return handled[bad+"/0"] })
}

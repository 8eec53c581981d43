package message

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	watermill "github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
)

// heldTail returns a node whose readings of the log wait for release.
func heldTail(t *testing.T, records int) (n *node, release func()) {
	t.Helper()
	n = newNode(t, memory.Config{Partitions: 1})
	flood(t, n, 0, records)
	return n, n.holdReads(t)
}

func TestWhatIsAskedWhileTheLogIsReadIsReadTogetherNext(t *testing.T) {
	n, release := heldTail(t, 100)
	var calls sync.WaitGroup
	ask := func(after, through int64) {
		calls.Go(func() {
			var got, want []int64
			for seq := after + 1; seq <= through; seq++ {
				want = append(want, seq)
			}
			ranges := []events.Range{{After: after, Through: through}}
			trimmed, err := n.service.tail.read(t.Context(), ranges, true, func(r *logged) error {
				got = append(got, r.Seq)
				return nil
			})
			require.NoError(t, err)
			require.Empty(t, trimmed)
			require.Equal(t, want, got)
		})
	}
	ask(0, 100)
	eventually(t, func() bool { return n.bus.reads.Load() == 1 })
	for i := range int64(50) {
		ask(i, 100-i)
	}
	n.queued(t, 50)
	release()
	calls.Wait()
	require.Equal(t, int64(2), n.bus.reads.Load())
}

func TestReplayFromThePoisonQueueIsNoNewMessageToReaders(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	original := n.publish(t, said(1, 2, "once"))[0]
	replay := watermill.NewMessage("", []byte(`{"type":"new_message","message":{"from":1,"to":2,"content":"once","message_type":1},"timestamp":1}`))
	replay.Metadata.Set(pubsub.KeyHeader, "u:1:2")
	replay.Metadata.Set(pubsub.ReplayHandlerHeader, "storage")
	require.NoError(t, n.bus.Publisher().Publish(events.TopicMessages, replay))
	var got []int64
	_, err := n.service.tail.read(t.Context(), []events.Range{{Through: n.end(t)[0]}}, true, func(r *logged) error {
		got = append(got, r.Seq)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []int64{original.Seq}, got)
}

func TestOneReadingServesNoMoreThanItsBound(t *testing.T) {
	n, release := heldTail(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls sync.WaitGroup
	ask := func(after, through int64) {
		calls.Go(func() {
			_, _ = n.service.tail.read(ctx, []events.Range{{After: after, Through: through}}, true, func(*logged) error { return nil })
		})
	}
	ask(0, 1)
	eventually(t, func() bool { return n.bus.reads.Load() == 1 })
	ask(0, 1)
	n.queued(t, 1)
	ask(maxMerged, maxMerged+10) // together with the other it would span too much
	n.queued(t, 2)
	release()
	calls.Wait()
	require.Equal(t, int64(3), n.bus.reads.Load())
}

func TestTooLongATailIsNotRead(t *testing.T) {
	n := newNode(t, memory.Config{})
	ranges := []events.Range{{Partition: 0, Through: maxTail}, {Partition: 1, Through: 1}}
	_, err := n.service.tail.read(t.Context(), ranges, true, func(*logged) error { return nil })
	require.ErrorIs(t, err, errTooLong)
	require.Zero(t, n.bus.reads.Load())
}

func TestVisitsEndWhenTheCallerGivesUp(t *testing.T) {
	n, release := heldTail(t, 10)
	ctx, cancel := context.WithCancel(t.Context())
	visits := 0 // without a lock, so that the race detector reports a visit after read has returned
	done := make(chan error)
	go func() {
		_, err := n.service.tail.read(ctx, []events.Range{{Through: 10}}, true, func(*logged) error {
			visits++
			return nil
		})
		visits++
		done <- err
	}()
	eventually(t, func() bool { return n.bus.reads.Load() == 1 })
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	release()
	_, err := n.service.tail.read(t.Context(), []events.Range{{Through: 10}}, true, func(*logged) error { return nil })
	require.NoError(t, err)
	require.Equal(t, 1, visits)
}

func TestErrorOfOneVisitorIsItsOwn(t *testing.T) {
	n, release := heldTail(t, 10)
	var calls sync.WaitGroup
	own := errors.New("enough")
	for i := range 10 {
		calls.Go(func() {
			visits := 0
			_, err := n.service.tail.read(t.Context(), []events.Range{{Through: 10}}, true, func(*logged) error {
				if visits++; i == 3 && visits == 5 {
					return own
				}
				return nil
			})
			if i == 3 {
				require.ErrorIs(t, err, own)
				require.Equal(t, 5, visits)
			} else {
				require.NoError(t, err)
				require.Equal(t, 10, visits)
			}
		})
	}
	release()
	calls.Wait()
}

func TestTrimmedRangeOfOneCallerSpoilsNoOthers(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 2})
	n := newNodeOver(t, bus)
	// The intact partition is read before the other turns out to be trimmed.
	conversations := map[int32]int64{}
	for to := int64(2); len(conversations) < 2; to++ {
		conversations[events.Partition(events.Direct(1, to), 2)] = to
	}
	for i := range 20 {
		n.publish(t, said(1, conversations[0], fmt.Sprint(i)), said(1, conversations[1], fmt.Sprint(i)))
	}
	bus.Trim(events.TopicMessages, events.Position{Partition: 1, Seq: 10})
	release := n.holdReads(t)
	var calls sync.WaitGroup
	for after := range int64(20) {
		calls.Go(func() {
			visits := map[int32]int64{}
			ranges := []events.Range{{Partition: 0, Through: 20}, {Partition: 1, After: after, Through: 20}}
			trimmed, err := n.service.tail.read(t.Context(), ranges, true, func(r *logged) error {
				visits[r.Partition]++
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, int64(20), visits[0])
			if after < 10 {
				require.Equal(t, []int32{1}, trimmed)
			} else {
				require.Empty(t, trimmed)
				require.Equal(t, 20-after, visits[1])
			}
		})
	}
	release()
	calls.Wait()
}

package message

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestLargeDeliveriesComeInSeveralFrames(t *testing.T) {
	n := newNode(t, memory.Config{})
	var missed []events.Position
	for i := range 40 {
		e := said(2, 1, fmt.Sprint(i))
		e.Message.Content = strings.Repeat("x", events.MaxContentBytes)
		missed = append(missed, n.publish(t, e)...)
	}
	p := events.Partition("u:1:2", 4)
	require.Equal(t, seqs(missed), n.resume(t, 1, map[int32]int64{p: 0}).got[p])
}

// A page bounds the bytes of a response, not how much may have been missed.
func TestSyncGivesLargeDeliveriesPageByPage(t *testing.T) {
	for name, stored := range map[string]int{"nothing stored": 0, "some": 50, "all": 200} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, memory.Config{})
			want := map[int32][]int64{}
			for i := range int64(100) {
				for _, from := range []int64{2, 3} {
					e := said(from, 1, fmt.Sprint(i))
					e.Message.Content = strings.Repeat("x", events.MaxContentBytes)
					pos := n.publish(t, e)[0]
					want[pos.Partition] = append(want[pos.Partition], pos.Seq)
					if int(i) < stored/2 {
						n.keep(t, pos.Partition, pos.Seq)
					}
				}
			}
			request := &millracev1.SyncRequest{User: 1, Resume: true, Cursor: map[int32]int64{0: 0, 1: 0, 2: 0, 3: 0}, PageBytes: 1 << 20}
			got := map[int32][]int64{}
			pages := 0
			for request != nil {
				s := n.sync(t, request)
				pages++
				require.True(t, s.GetRecovered())
				require.Empty(t, s.GetIncomplete())
				request = nil
				if len(s.rest) > 0 {
					request = &millracev1.SyncRequest{User: 1, Resume: true, Cursor: s.rest, Through: map[int32]int64{}, PageBytes: 1 << 20}
				}
				for p := range s.rest {
					request.Through[p] = s.GetEnd()[p]
				}
				for p, seqs := range s.got {
					got[p] = append(got[p], seqs...)
				}
			}
			require.Equal(t, want, got)
			require.InDelta(t, 7, pages, 1)
		})
	}
}

func TestSyncIsUnavailableWhileTooMuchIsCollectedForAll(t *testing.T) {
	n := newNode(t, memory.Config{})
	large(t, n, 3)
	const bound = 3 * events.MaxContentBytes // two messages with everything around them
	n.service.caught = semaphore.NewWeighted(bound)
	sync := func(missed int64) error {
		p := events.Partition("u:1:2", 4)
		r := &millracev1.SyncRequest{User: 2, Resume: true, Cursor: map[int32]int64{p: 3 - missed}}
		return n.service.sync(t.Context(), r, func(*millracev1.SyncResponse) error { return nil })
	}
	requireCode(t, codes.Unavailable, statusOf(sync(3)))
	for range 10 {
		require.NoError(t, sync(2))
	}
	require.True(t, n.service.caught.TryAcquire(bound), "what was collected is given back")
}

func TestConcurrentSyncsShareTheirReadings(t *testing.T) {
	n := newNode(t, memory.Config{})
	p := events.Partition("u:1:2", 4)
	missed := n.publish(t, said(2, 1, "a"), said(2, 1, "b"), said(2, 1, "c"))
	release := n.holdReads(t)
	var calls sync.WaitGroup
	call := func(at int64) {
		calls.Go(func() {
			require.Equal(t, seqs(missed)[at:], n.resume(t, 1, map[int32]int64{p: at}).got[p])
		})
	}
	call(0)
	eventually(t, func() bool { return n.bus.reads.Load() == 1 })
	const callers = 200
	for i := range int64(callers) {
		call(i % 3)
	}
	n.queued(t, callers)
	release()
	calls.Wait()
	require.Equal(t, int64(2), n.bus.reads.Load())
}

func TestSyncIsUnavailableWhenTheBrokerIs(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.bus.endFails.Store(true)
	stream, err := n.Sync(t.Context(), &millracev1.SyncRequest{User: 1})
	require.NoError(t, err)
	_, err = stream.Recv()
	requireCode(t, codes.Unavailable, err)
	_, err = n.Memberships(t.Context(), &millracev1.MembershipsRequest{User: 1})
	requireCode(t, codes.Unavailable, err)
}

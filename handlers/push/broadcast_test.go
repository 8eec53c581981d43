package push

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

func noticeOf(id string) *millracev1.Broadcast {
	return &millracev1.Broadcast{Kind: &millracev1.Broadcast_Notice{Notice: &millracev1.Notice{NoticeId: id, Push: []byte(id)}}}
}

func (a *attached) nextBroadcast() *millracev1.Broadcast {
	a.Helper()
	for len(a.broadcasts) == 0 {
		a.broadcasts = a.recv().GetBroadcasts()
	}
	b := a.broadcasts[0]
	a.broadcasts = a.broadcasts[1:]
	return b
}

func (a *attached) acknowledge(number uint64) {
	a.Helper()
	require.NoError(a, a.stream.Send(&millracev1.AttachRequest{Kind: &millracev1.AttachRequest_BroadcastAck{BroadcastAck: number}}))
}

func TestBroadcastIsDoneOnceEveryGatewayHasAcknowledgedIt(t *testing.T) {
	n := newNode(t, Options{})
	gateways := []*attached{n.attach(t, "a", events.UserChannel(1)), n.attach(t, "b")}
	done := make(chan error, 1)
	go func() { done <- n.Broadcast(t.Context(), noticeOf("1"), noticeOf("2")) }()
	for i, a := range gateways {
		for number := uint64(1); number <= 2; number++ {
			b := a.nextBroadcast()
			require.Equal(t, number, b.GetNumber())
			require.Equal(t, fmt.Sprint(number), b.GetNotice().GetNoticeId())
			require.Zero(t, b.GetAgeMs())
		}
		select {
		case err := <-done:
			require.Fail(t, "done before gateway", "%d: %v", i, err)
		default:
		}
		a.acknowledge(2)
	}
	require.NoError(t, <-done)
}

// inBubble runs the test with a hub in a synctest bubble.
func inBubble(t *testing.T, test func(t *testing.T, h *Hub)) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{}, nil, slog.New(slog.DiscardHandler))
		test(t, h)
		require.NoError(t, h.Stop(context.Background()))
	})
}

// gatewayAt attaches the end of a queue, which nobody sends from.
func gatewayAt(h *Hub) *queue {
	q := newQueue(h.opts)
	h.broadcasts.attach(q)
	return q
}

// got returns what the queue has, and empties it.
func got(q *queue) (all []*millracev1.Broadcast) {
	for f := q.take(); f != nil; f = q.take() {
		all = append(all, f.response.GetBroadcasts()...)
	}
	return all
}

func TestGatewayThatAttachesLaterGetsWhatIsAMinuteOldAndItsAge(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub) {
		require.NoError(t, h.Broadcast(t.Context(), noticeOf("old")))
		time.Sleep(keepBroadcasts/2 + time.Second)
		require.NoError(t, h.Broadcast(t.Context(), noticeOf("new")))
		time.Sleep(keepBroadcasts / 2)
		late := got(gatewayAt(h))
		require.Len(t, late, 1)
		require.Equal(t, "new", late[0].GetNotice().GetNoticeId())
		require.Equal(t, (keepBroadcasts / 2).Milliseconds(), late[0].GetAgeMs())
		require.EqualValues(t, 1, late[0].GetNumber())
	})
}

func TestGatewayThatDoesNotAcknowledgeIsWaitedForOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub) {
		frozen, well := gatewayAt(h), gatewayAt(h)
		begin := time.Now()
		broadcast := func(id string, number uint64) {
			go func() {
				synctest.Wait()
				h.broadcasts.acknowledge(well, number)
			}()
			require.NoError(t, h.Broadcast(t.Context(), noticeOf(id)))
		}
		broadcast("1", 1)
		require.Equal(t, broadcastWait, time.Since(begin))
		broadcast("2", 2)
		require.Equal(t, broadcastWait, time.Since(begin), "nobody waits for it again")
		require.Len(t, got(frozen), 2, "it gets them all the same")
		h.broadcasts.acknowledge(frozen, 2)
		broadcast("3", 3)
		require.Equal(t, 2*broadcastWait, time.Since(begin), "it has caught up, and is frozen again")
	})
}

func TestGatewayThatLeavesIsNotWaitedForAndGetsTheRestWhenItIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub) {
		q := gatewayAt(h)
		begin := time.Now()
		go func() {
			synctest.Wait()
			q.end(nil)
			h.broadcasts.detach(q)
			h.broadcasts.attach(q) // too late: its stream has ended
		}()
		require.NoError(t, h.Broadcast(t.Context(), noticeOf("1")))
		require.Equal(t, begin, time.Now())
		require.Empty(t, h.broadcasts.gateways)
		require.Len(t, got(gatewayAt(h)), 1)
	})
}

func TestBroadcastThatANodeCannotFinishIsForAnother(t *testing.T) {
	for name, end := range map[string]func(h *Hub, cancel func()){
		"the context ends": func(_ *Hub, cancel func()) { cancel() },
		"the node stops": func(h *Hub, _ func()) {
			_ = h.Stop(context.Background())
			for q := range h.broadcasts.gateways { // as its stream does
				q.end(errStopping())
				h.broadcasts.detach(q)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *Hub) {
				gatewayAt(h)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					synctest.Wait()
					end(h, cancel)
				}()
				require.Error(t, h.Broadcast(ctx, noticeOf("1")))
				cancel()
			})
		})
	}
	t.Run("the node has stopped", func(t *testing.T) {
		h := New(Options{}, nil, slog.New(slog.DiscardHandler))
		require.NoError(t, h.Stop(t.Context()))
		require.Equal(t, codes.Unavailable, status.Code(h.Broadcast(t.Context(), noticeOf("1"))))
	})
}

func TestWhatIsKeptOfBroadcastsIsBounded(t *testing.T) {
	h := New(Options{}, nil, slog.New(slog.DiscardHandler))
	for i := range maxKept + 10 {
		require.NoError(t, h.Broadcast(t.Context(), noticeOf(fmt.Sprint(i))))
	}
	require.Len(t, h.broadcasts.kept, maxKept)
	large := noticeOf("large")
	large.GetNotice().Push = make([]byte, maxKeptBytes/2)
	for range 3 {
		require.NoError(t, h.Broadcast(t.Context(), large))
	}
	require.Len(t, h.broadcasts.kept, 1)
	require.Less(t, h.broadcasts.bytes, maxKeptBytes)
}

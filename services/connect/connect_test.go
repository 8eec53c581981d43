package connect_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"millrace/infra/auth"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

func TestAConnectThatFailsLeavesTheDevicesSessionAlone(t *testing.T) {
	for name, test := range map[string]struct {
		fail  func(s *simple) (token string)
		close int
	}{
		"Sync is unavailable": {func(s *simple) string {
			s.message.syncDown.Store(true)
			return "1001"
		}, 1013},
		"the token ends meanwhile": {func(s *simple) string {
			end := time.Now().Add(time.Second)
			s.message.beforeSync = func() { <-time.After(time.Until(end)) }
			return fmt.Sprintf("1001@%d", end.UnixMilli())
		}, 4003},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSimple(t, connect.Config{AnswerTimeout: 3 * time.Second})
			first, _ := s.connect(1001, `"device":"phone"`)
			second := s.dial()
			second.send(`{"id":1,"connect":{"token":"%s","device":"phone"}}`, test.fail(s))
			code, _ := second.closedWith()
			require.Equal(t, test.close, code)
			s.w.say(1002, 1001, "still there")
			first.pushed("still there")
		})
	}
}

// Pairs of sessions of one device connect at the same moment, to one gateway or to two. One of each pair stays, and the other
// is closed as replaced.
func TestOfTwoConnectsAtTheSameMomentOneStays(t *testing.T) {
	w := newWorld(t, 2)
	push := w.newPushNode(0, 1)
	messages := []cluster.Conn{serveMessages(t, &messageNode{w: w})}
	pushes := []cluster.Conn{servePushes(t, push)}
	gateways := []*rig{start(t, connect.Config{}, messages, pushes), start(t, connect.Config{}, messages, pushes)}
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(push.attached) == 2
	}, patience, time.Millisecond)
	for pair := range 40 {
		var both [2]*client
		for i := range both {
			both[i] = gateways[pair%2*i].dial()
		}
		begin := make(chan struct{})
		var connecting sync.WaitGroup
		for _, c := range both {
			connecting.Go(func() {
				<-begin
				_ = c.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":1,"connect":{"token":"%d","device":"phone"}}`, 5000+pair))
			})
		}
		close(begin)
		connecting.Wait()
		w.say(1, int64(5000+pair), "who is there")
		left := make(chan int, 2)
		for i, c := range both {
			connecting.Go(func() {
				var f frame
				var err error
				for err == nil && f.Pong == nil {
					f, err = c.next()
				}
				_ = c.conn.Close()
				if websocket.IsCloseError(err, 4009) {
					left <- i
				} else {
					left <- -1
				}
			})
		}
		replaced := <-left
		require.NotEqual(t, -1, replaced, "pair %d: one is replaced", pair)
		both[1-replaced].send(`{"id":2,"ping":{}}`)
		require.Equal(t, -1, <-left, "pair %d: the other stays", pair)
		connecting.Wait()
	}
}

func TestATokenIsGoodUntilFiveSecondsAfterItsExpiry(t *testing.T) {
	s := startSimple(t, connect.Config{})
	first, _ := s.connect(1001, `"device":"phone"`)
	end := time.Now().Add(2 * time.Second) // the token expired 3 s ago
	second := s.dial()
	second.send(`{"id":1,"connect":{"token":"1001@%d","device":"phone"}}`, end.UnixMilli())
	require.NotNil(t, second.read().Connected)
	code, _ := first.closedWith()
	require.Equal(t, 4009, code)
	code, _ = second.closedWith()
	require.Equal(t, 4003, code)
	require.False(t, time.Now().Before(end.Truncate(time.Millisecond)))
}

// slowTokens takes half of the time it has, and notes its deadline.
type slowTokens struct{ deadline chan time.Time }

func (v slowTokens) Verify(ctx context.Context, token string) (auth.Identity, error) {
	deadline, _ := ctx.Deadline()
	v.deadline <- deadline
	<-time.After(time.Until(deadline) / 2)
	return tokens{}.Verify(ctx, token)
}

// deadlineNode notes the deadline of a Sync.
type deadlineNode struct {
	*messageNode
	deadline chan time.Time
}

func (n deadlineNode) Sync(r *millracev1.SyncRequest, stream millracev1.MessageService_SyncServer) error {
	deadline, _ := stream.Context().Deadline()
	n.deadline <- deadline
	return n.messageNode.Sync(r, stream)
}

func TestTheWholeConnectHasOneDeadline(t *testing.T) {
	w := newWorld(t, 2)
	verifying, syncing := make(chan time.Time, 1), make(chan time.Time, 1)
	r := startVerified(t, connect.Config{AnswerTimeout: 4 * time.Second}, slowTokens{verifying},
		static([]cluster.Conn{serveMessages(t, deadlineNode{&messageNode{w: w}, syncing})}), static(nil))
	_, _ = r.connect(1001)
	require.WithinDuration(t, <-verifying, <-syncing, time.Second, "two seconds later, had each its own")
}

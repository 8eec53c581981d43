package connect_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

func (n *messageNode) setBlock(by, user int64, blocked bool) {
	n.w.set(func(*world) {
		if n.blocks == nil {
			n.blocks = map[[2]int64]*millracev1.BlockedState{}
		}
		n.blocks[[2]int64{by, user}] = &millracev1.BlockedState{By: by, Blocked: blocked, Seq: int64(len(n.blocks)) + time.Now().UnixNano()>>10}
	})
}

func (n *messageNode) Blocked(_ context.Context, r *millracev1.BlockedRequest) (*millracev1.BlockedResponse, error) {
	answer := &millracev1.BlockedResponse{}
	n.w.set(func(*world) {
		for pair, state := range n.blocks {
			if pair[0] == r.GetUser() && state.GetBlocked() {
				answer.Users = append(answer.Users, pair[1])
			}
		}
	})
	slices.Sort(answer.GetUsers())
	return answer, nil
}

func (n *messageNode) BlockedBy(_ context.Context, r *millracev1.BlockedByRequest) (*millracev1.BlockedByResponse, error) {
	if n.blocksDown.Load() {
		return nil, status.Error(codes.Unavailable, "down")
	}
	answer := &millracev1.BlockedByResponse{}
	n.w.set(func(*world) {
		for _, by := range r.GetBy() {
			if state := n.blocks[[2]int64{by, r.GetUser()}]; state != nil {
				answer.States = append(answer.States, state)
			}
		}
	})
	return answer, nil
}

// asks sends a request until its answer is as wanted, because a signal reaches the other gateway some time after the answer.
func (c *client) asks(request, want string) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		c.send("%s", request)
		f := c.read()
		for ; f.ID == 0; f = c.read() {
			require.NotNil(c.t, f.Push, f.raw)
		}
		return f.raw == want
	}, patience, time.Millisecond)
}

func TestBlockedUsersAreListed(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connect(1001)
	c.send(`{"id":2,"blocked":{}}`)
	require.JSONEq(t, `{"id":2,"blocked":{"users":[]}}`, c.read().raw)
	for i, verb := range []string{`"block":{"user":1003}`, `"block":{"user":1002}`, `"block":{"user":1004}`, `"unblock":{"user":1004}`} {
		c.send(`{"id":%d,%s}`, i+3, verb)
		require.JSONEq(t, fmt.Sprintf(`{"id":%d,"ok":{}}`, i+3), c.read().raw)
	}
	c.send(`{"id":9,"blocked":{}}`)
	require.JSONEq(t, `{"id":9,"blocked":{"users":[1002,1003]}}`, c.read().raw)
}

// twoGateways returns a client of each of two gateways that have the same nodes.
func (s *simple) twoGateways(first, second int64) (*client, *client) {
	s.w.t.Helper()
	a, _ := s.connect(first)
	other := start(s.w.t, connect.Config{}, []cluster.Conn{serveMessages(s.w.t, s.message)}, []cluster.Conn{servePushes(s.w.t, s.push)})
	require.Eventually(s.w.t, func() bool {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		return len(s.push.attached) == 2
	}, patience, time.Millisecond)
	b, _ := other.connect(second)
	s.live()
	other.live()
	return a, b
}

func TestTypingOfTheBlockedIsRefusedOnAnotherGatewayToo(t *testing.T) {
	s := startSimple(t, connect.Config{})
	s.w.say(1002, 1001, "hello")
	a, b := s.twoGateways(1001, 1002)
	const refused = `{"id":3,"error":{"code":"permission_denied","message":"the user accepts no direct messages of yours"}}`
	typing := func() {
		t.Helper()
		b.asks(`{"id":3,"typing":{"to":1001}}`, `{"id":3,"ok":{}}`)
		require.JSONEq(t, `{"push":{"type":"typing","from":1002,"to":1001}}`, a.read().raw)
	}
	typing()
	a.send(`{"id":2,"block":{"user":1002}}`)
	require.NotNil(t, a.read().OK)
	for f := ""; f != refused; {
		b.send(`{"id":3,"typing":{"to":1001}}`)
		f = b.read().raw
		<-time.After(time.Second / 40) // a user may type 50 times a second
	}
	b.send(`{"id":4,"typing":{"to":1001}}`)
	require.Equal(t, "permission_denied", b.read().Error.Code)
	answered := func() {
		t.Helper()
		for f := a.read(); f.OK == nil; f = a.read() {
			require.NotNil(t, f.Push, "what came before the signal, and is relayed only now")
		}
	}
	a.send(`{"id":4,"typing":{"to":1002}}`) // who blocks may type
	answered()
	require.JSONEq(t, `{"push":{"type":"typing","from":1001,"to":1002}}`, b.read().raw)

	a.send(`{"id":5,"unblock":{"user":1002}}`)
	answered()
	typing()
}

func TestPresenceIsWithheldFromTheBlocked(t *testing.T) {
	s := startSimple(t, connect.Config{OfflineAfter: time.Millisecond})
	s.message.lastSeen = map[int64]int64{1001: 7, 1003: 8}
	a, _ := s.connect(1001)
	b, _ := s.connect(1002)
	const (
		ask     = `{"id":2,"presence":{"users":[1001,1002,1003]}}`
		seen    = `{"id":2,"presence":{"online":[1001,1002],"last_seen":{"1003":8}}}`
		unseen  = `{"id":2,"presence":{"online":[1002],"last_seen":{"1003":8}}}`
		online  = `{"push":{"type":"user_online","user":1001}}`
		offline = `{"push":{"type":"user_offline","user":1001}}`
	)
	b.asks(ask, seen)
	a.send(`{"id":2,"block":{"user":1002}}`)
	require.NotNil(t, a.read().OK)
	require.Equal(t, offline, b.read().raw, "from now on the user seems to be offline")
	b.send("%s", ask)
	require.Equal(t, unseen, b.read().raw)
	a.asks(`{"id":3,"presence":{"users":[1002]}}`, `{"id":3,"presence":{"online":[1002]}}`)

	a.send(`{"id":4,"unblock":{"user":1002}}`)
	require.NotNil(t, a.read().OK)
	require.Equal(t, online, b.read().raw)
	b.send("%s", ask)
	require.Equal(t, seen, b.read().raw)
	a.send(`{"id":5,"block":{"user":1002}}`)
	require.NotNil(t, a.read().OK)
	require.Equal(t, offline, b.read().raw)

	witness, _ := s.connect(1004)
	witness.asks(`{"id":2,"presence":{"users":[1001]}}`, `{"id":2,"presence":{"online":[1001]}}`)
	require.NoError(t, a.conn.Close())
	require.Equal(t, offline, witness.read().raw)
	again, _ := s.connect(1001)
	require.Equal(t, online, witness.read().raw)
	again.send(`{"id":6,"unblock":{"user":1002}}`)
	require.NotNil(t, again.read().OK)
	require.Equal(t, online, b.read().raw, "nothing was told of the coming and going")
}

func TestTypingGoesOnWhileNobodyKnowsWhoBlocksWhom(t *testing.T) {
	s := startSimple(t, connect.Config{})
	s.w.say(1002, 1001, "hello")
	s.message.blocksDown.Store(true)
	a, _ := s.connect(1001)
	b, _ := s.connect(1002)
	s.live()
	b.send(`{"id":2,"typing":{"to":1001}}`)
	require.NotNil(t, b.read().OK)
	require.JSONEq(t, `{"push":{"type":"typing","from":1002,"to":1001}}`, a.read().raw)
}

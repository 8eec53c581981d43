package connect_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

// notice returns a broadcast with the number, of a notice whose id and content are the same.
func notice(number uint64, id string, to events.Audience) *millracev1.Broadcast {
	n, err := events.NoticeOf(&events.Event{Type: events.SystemNotice, NoticeID: id, Content: id, To: &to})
	if err != nil {
		panic(err)
	}
	return &millracev1.Broadcast{Number: number, Kind: &millracev1.Broadcast_Notice{Notice: n}}
}

// revocation returns a broadcast with the number, of tokens of user 1001.
func revocation(number uint64, before int64) *millracev1.Broadcast {
	return &millracev1.Broadcast{Number: number, Kind: &millracev1.Broadcast_TokensRevoked{
		TokensRevoked: &millracev1.TokensRevoked{User: 1001, Before: before},
	}}
}

// connectBy connects with the token and returns the first frame.
func (r *rig) connectBy(token string) (*client, frame) {
	r.t.Helper()
	c := r.dial()
	c.send(`{"id":1,"connect":{"token":"%s"}}`, token)
	return c, c.read()
}

// notices reads until an answer to a ping and returns the contents of the pushes.
func (c *client) notices() (contents []string) {
	c.t.Helper()
	c.send(`{"id":99,"ping":{}}`)
	for {
		f := c.read()
		if f.Pong != nil {
			return contents
		}
		require.NotNil(c.t, f.Push, f.raw)
		require.Equal(c.t, "system_notice", f.Push.Type)
		require.Empty(c.t, f.Push.Pos)
		contents = append(contents, f.Push.Content)
	}
}

func TestNoticeReachesThoseWhomItIsForOnceADevice(t *testing.T) {
	s := startSimple(t, connect.Config{})
	phone, _ := s.connect(1001, `"device":"phone"`)
	laptop, _ := s.connect(1001, `"device":"laptop"`)
	other, _ := s.connect(1002)
	vip, _ := s.connectBy("vip:1003")
	number := uint64(0)
	send := func(id string, to events.Audience) {
		number++
		s.push.broadcast(notice(number, id, to))
	}
	send("all", events.Audience{})
	send("all", events.Audience{})
	send("users", events.Audience{Users: []int64{1002, 1001, 1001, 1009}})
	send("vip", events.Audience{UserType: "vip"})
	send("eu", events.Audience{Region: "eu"})
	send("vip in eu", events.Audience{UserType: "vip", Region: "eu"})
	send("us", events.Audience{Region: "us"})
	send("vip in us", events.Audience{UserType: "vip", Region: "us"})
	s.push.broadcast(&millracev1.Broadcast{Number: number + 1}) // of a later version
	s.push.acknowledged(t, number+1)
	for _, c := range []*client{phone, laptop, other} {
		require.Equal(t, []string{"all", "users", "eu"}, c.notices())
	}
	require.Equal(t, []string{"all", "vip", "eu", "vip in eu"}, vip.notices())
	late, _ := s.connect(1004)
	require.Empty(t, late.notices())
}

func TestNoticeThatTwoNodesSendIsTheSame(t *testing.T) {
	w := newWorld(t, 4)
	one, two := w.newPushNode(0, 1), w.newPushNode(2, 3)
	r := start(t, connect.Config{}, []cluster.Conn{serveMessages(t, &messageNode{w: w})}, []cluster.Conn{servePushes(t, one), servePushes(t, two)})
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(one.attached) == 1 && len(two.attached) == 1
	}, patience, time.Millisecond)
	c, _ := r.connect(1001)
	one.broadcast(notice(1, "n", events.Audience{}))
	two.broadcast(notice(7, "n", events.Audience{}))
	one.acknowledged(t, 1)
	two.acknowledged(t, 7)
	require.Equal(t, []string{"n"}, c.notices())
}

func TestNoticeThatIsOlderThanASessionIsNotForIt(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connect(1001)
	begin := time.Now()
	require.Eventually(t, func() bool { return time.Since(begin) > 10*time.Millisecond }, patience, time.Millisecond)
	ages := []time.Duration{time.Hour, time.Millisecond}
	for i, to := range []events.Audience{{}, {Users: []int64{1001}}} {
		for j, age := range ages {
			b := notice(uint64(2*i+j+1), fmt.Sprint(to, age), to)
			b.AgeMs = age.Milliseconds()
			s.push.broadcast(b)
		}
	}
	s.push.acknowledged(t, 4)
	require.Equal(t, []string{"{[]  } 1ms", "{[1001]  } 1ms"}, c.notices())
}

func TestNoticeComesAfterWhatASessionHasMissed(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, connected := s.connect(1001)
	_ = c.conn.Close()
	s.w.say(1002, 1001, "missed")
	s.message.afterSync = func() {
		s.push.broadcast(notice(1, "n", events.Audience{}))
		s.push.acknowledged(t, 1)
	}
	back, _ := s.connect(1001, cursorOf(t, connected.Cursor))
	back.pushed("missed")
	require.Equal(t, "n", back.read().Push.Content)
	require.Empty(t, back.notices())
}

func TestSessionsWithRevokedTokensAreClosedAndRefused(t *testing.T) {
	s := startSimple(t, connect.Config{})
	old, _ := s.connectBy("1001#99")
	undated, _ := s.connectBy("1001")
	recent, _ := s.connectBy("1001#100")
	other, _ := s.connectBy("1002#99")
	s.push.broadcast(revocation(1, 100))
	for _, c := range []*client{old, undated} {
		code, reason := c.closedWith()
		require.Equal(t, 4001, code)
		require.Equal(t, "the token was revoked", reason)
	}
	s.push.broadcast(revocation(2, 50)) // an older one, again
	s.push.acknowledged(t, 2)
	require.Empty(t, recent.notices())
	require.Empty(t, other.notices())
	for _, token := range []string{"1001", "1001#99"} {
		c, first := s.connectBy(token)
		require.Equal(t, "unauthenticated", first.Error.Code)
		code, _ := c.closedWith()
		require.Equal(t, 4001, code)
		recent.send(`{"id":2,"refresh":{"token":"%s"}}`, token)
		require.Equal(t, "unauthenticated", recent.read().Error.Code)
	}
	_, first := s.connectBy("1001#101")
	require.NotNil(t, first.Connected)

	// A session has the token that it was refreshed with.
	recent.send(`{"id":3,"refresh":{"token":"1001#200"}}`)
	require.NotNil(t, recent.read().OK)
	s.push.broadcast(revocation(3, 200))
	s.push.acknowledged(t, 3)
	require.Empty(t, recent.notices())
}

func TestRevokedTokensAreRefusedByGatewaysThatWereNotThere(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connectBy("1001#100")
	require.NoError(t, s.w.db.SaveRevocations(t.Context(), []events.Record{{
		Event: events.Event{Type: events.TokensRevoked, User: 1001, Before: 100},
	}}))
	s.w.set(func(w *world) { w.restart() })
	refused, first := s.connectBy("1001#99")
	require.Equal(t, "unauthenticated", first.Error.Code)
	code, _ := refused.closedWith()
	require.Equal(t, 4001, code)
	c.send(`{"id":2,"refresh":{"token":"1001#99"}}`)
	require.Equal(t, "unauthenticated", c.read().Error.Code)
	c.send(`{"id":3,"refresh":{"token":"1001#100"}}`)
	require.NotNil(t, c.read().OK)
}

func TestWhoConnectsWithARevokedTokenIsNotOnlineForAMoment(t *testing.T) {
	s := startSimple(t, connect.Config{})
	require.NoError(t, s.w.db.SaveRevocations(t.Context(), []events.Record{{
		Event: events.Event{Type: events.TokensRevoked, User: 1001, Before: 100},
	}}))
	watcher, _ := s.connectBy("1002")
	watcher.asks(`{"id":2,"presence":{"users":[1001]}}`, `{"id":2,"presence":{"online":[]}}`)
	_, first := s.connectBy("1001#99")
	require.Equal(t, "unauthenticated", first.Error.Code)
	watcher.send(`{"id":3,"presence":{"users":[1001]}}`)
	require.Equal(t, `{"id":3,"presence":{"online":[]}}`, watcher.read().raw, "nothing was pushed before")
	_, first = s.connectBy("1001#100")
	require.NotNil(t, first.Connected)
	require.Equal(t, `{"push":{"type":"user_online","user":1001}}`, watcher.read().raw)
}

func TestTokenThatIsRevokedWhileItConnectsIsRefused(t *testing.T) {
	s := startSimple(t, connect.Config{})
	told := make(chan struct{})
	s.message.afterSync = func() {
		s.push.broadcast(revocation(1, 100))
		s.push.acknowledged(t, 1)
		close(told)
	}
	c := s.dial()
	c.send(`{"id":1,"connect":{"token":"1001#99"}}`)
	code, _ := c.closedWith()
	require.Equal(t, 4001, code)
	<-told
}

func TestWhileTheStoreIsDownTokensPassAndLaterTheRevokedOnesAreClosed(t *testing.T) {
	s := startSimple(t, connect.Config{AnswerTimeout: 2 * time.Second, Retry: 10 * time.Millisecond})
	require.NoError(t, s.w.db.SaveRevocations(t.Context(), []events.Record{{
		Event: events.Event{Type: events.TokensRevoked, User: 1001, Before: 100},
	}}))
	s.w.store.down.Store(true)
	c, first := s.connectBy("1001#99")
	require.NotNil(t, first.Connected)
	c.send(`{"id":2,"refresh":{"token":"1001#99"}}`)
	require.NotNil(t, c.read().OK)
	s.w.store.down.Store(false)
	code, _ := c.closedWith()
	require.Equal(t, 4001, code)
}

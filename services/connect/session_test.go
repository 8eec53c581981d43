package connect_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/services/connect"
	"millrace/services/connect/cluster"
)

func TestRefreshExtendsTheSession(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c := s.dial()
	c.send(`{"id":1,"connect":{"token":"1001@%d"}}`, time.Now().Add(2*time.Second).UnixMilli())
	require.NotNil(t, c.read().Connected)
	c.send(`{"id":2,"refresh":{"token":"1002"}}`)
	require.Equal(t, "permission_denied", c.read().Error.Code)
	c.send(`{"id":3,"refresh":{"token":"nobody"}}`)
	require.Equal(t, "unauthenticated", c.read().Error.Code)
	expires := time.Now().Add(2500 * time.Millisecond)
	c.send(`{"id":4,"refresh":{"token":"1001@%d"}}`, expires.UnixMilli())
	require.NotNil(t, c.read().OK)
	code, _ := c.closedWith()
	require.Equal(t, 4003, code)
	require.False(t, time.Now().Before(expires.Truncate(time.Millisecond)), "not before the new token expires")
}

func TestTheNewestSessionOfADeviceStays(t *testing.T) {
	w := newWorld(t, 2)
	push := w.newPushNode(0, 1)
	messages := []cluster.Conn{serveMessages(t, &messageNode{w: w})}
	pushes := []cluster.Conn{servePushes(t, push)}
	here, there := start(t, connect.Config{}, messages, pushes), start(t, connect.Config{}, messages, pushes)
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(push.attached) == 2
	}, patience, time.Millisecond)

	interested := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for a := range push.attached {
			if !a.interest["u:1001"] {
				return false
			}
		}
		return true
	}
	_, _ = here.connect(1001)
	_, _ = there.connect(1001)
	require.Eventually(t, interested, patience, time.Millisecond, "else a signal would be lost")

	first, _ := here.connect(1001, `"device":"phone"`)
	other, _ := here.connect(1001, `"device":"tablet"`)
	user, _ := here.connect(1002, `"device":"phone"`)
	second, _ := here.connect(1001, `"device":"phone"`)
	code, _ := first.closedWith()
	require.Equal(t, 4009, code, "on the same gateway")
	third, _ := there.connect(1001, `"device":"phone"`)
	code, _ = second.closedWith()
	require.Equal(t, 4009, code, "on another gateway")
	for _, c := range []*client{other, user, third} {
		c.send(`{"id":2,"ping":{}}`)
		require.NotNil(t, c.read().Pong, "others stay")
	}
}

func TestPingsKeepAConnectionAndItsAbsenceEndsIt(t *testing.T) {
	t.Parallel()
	s := startSimple(t, connect.Config{Ping: time.Second})
	dead, _ := s.connect(1001)
	dead.conn.SetPingHandler(func(string) error { return nil })
	alive, _ := s.connect(1002)
	pings := make(chan struct{}, 100)
	answer := alive.conn.PingHandler()
	alive.conn.SetPingHandler(func(data string) error {
		pings <- struct{}{}
		return answer(data)
	})
	go func() { _, _ = alive.next() }()
	code, _ := dead.closedWith()
	require.Equal(t, 4008, code)
	for range 3 {
		select {
		case <-pings:
		case <-time.After(patience):
			t.Fatal("no ping")
		}
	}
	alive.send(`{"id":2,"ping":{}}`)
}

package connect_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/connect"
)

func TestTypingReachesTheOthers(t *testing.T) {
	s := startSimple(t, connect.Config{})
	s.w.append(s.w.membership(events.GroupCreated, 7, 1001, 1001, 1002))
	s.w.say(1002, 1001, "hello")
	a, _ := s.connect(1001)
	b, _ := s.connect(1002)
	c, _ := s.connect(1003)
	s.live()
	a.send(`{"id":2,"typing":{"to":1002}}`)
	require.NotNil(t, a.read().OK)
	require.JSONEq(t, `{"push":{"type":"typing","from":1001,"to":1002}}`, b.read().raw)
	a.send(`{"id":3,"typing":{"group_id":7}}`)
	require.NotNil(t, a.read().OK)
	require.JSONEq(t, `{"push":{"type":"typing","from":1001,"group_id":7}}`, b.read().raw)
	c.send(`{"id":4,"typing":{"group_id":7}}`)
	require.Equal(t, "not_found", c.read().Error.Code)
	a.send(`{"id":5,"ping":{}}`)
	require.NotNil(t, a.read().Pong, "the typist hears nothing of it")
}

func TestPresenceIsAskedOfAThousandUsers(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connect(1001)
	users := make([]string, 1001)
	for i := range users {
		users[i] = fmt.Sprint(1001 + i)
	}
	c.send(`{"id":2,"presence":{"users":[%s]}}`, strings.Join(users[:1000], ","))
	require.JSONEq(t, `{"id":2,"presence":{"online":[1001]}}`, c.read().raw)
	c.send(`{"id":3,"presence":{"users":[%s]}}`, strings.Join(users, ","))
	require.Equal(t, "invalid_argument", c.read().Error.Code)
}

func TestPresenceTellsWhenThoseWhoAreOfflineWereLastSeen(t *testing.T) {
	s := startSimple(t, connect.Config{})
	s.message.lastSeen = map[int64]int64{1001: 7, 1002: 8}
	c, _ := s.connect(1001)
	c.send(`{"id":2,"presence":{"users":[1001,1002,1003]}}`)
	require.JSONEq(t, `{"id":2,"presence":{"online":[1001],"last_seen":{"1002":8}}}`, c.read().raw)
	c.send(`{"id":3,"presence":{"users":[]}}`)
	require.JSONEq(t, `{"id":3,"presence":{"online":[]}}`, c.read().raw)
}

func TestTypingToAStrangerReachesNobody(t *testing.T) {
	s := startSimple(t, connect.Config{})
	a, _ := s.connect(1001)
	b, _ := s.connect(1002)
	s.live()
	a.send(`{"id":2,"typing":{"to":1002}}`)
	require.NotNil(t, a.read().OK)
	require.Eventually(t, func() (asked bool) {
		s.w.set(func(w *world) { asked = w.lookups == 1 })
		return asked
	}, patience, time.Millisecond)
	a.send(`{"id":3,"send":{"to":1002,"content":"hello"}}`)
	for f := a.read(); f.Sent == nil; f = a.read() {
		require.NotNil(t, f.Push, f.raw)
	}
	a.send(`{"id":4,"typing":{"to":1002}}`)
	b.pushed("hello")
	require.JSONEq(t, `{"push":{"type":"typing","from":1001,"to":1002}}`, b.read().raw)
	b.send(`{"id":2,"ping":{}}`)
	require.NotNil(t, b.read().Pong, "of the first typing there is nothing")
}

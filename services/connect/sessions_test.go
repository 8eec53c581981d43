package connect_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
)

// ask asks the gateway for its sessions.
func (n *pushNode) ask(t *testing.T, question *millracev1.SessionsQuestion) (answer *millracev1.SessionsAnswer) {
	t.Helper()
	n.w.set(func(*world) {
		for a := range n.attached {
			a.out <- &millracev1.AttachResponse{Questions: []*millracev1.SessionsQuestion{question}}
		}
	})
	require.Eventually(t, func() bool {
		n.w.set(func(*world) {
			for _, given := range n.answers {
				if given.GetNumber() == question.GetNumber() {
					answer = given
				}
			}
		})
		return answer != nil
	}, patience, time.Millisecond)
	return answer
}

func TestPushNodeIsToldTheSessionsOfAUser(t *testing.T) {
	s := startSimple(t, connect.Config{})
	begin := time.Now().Unix()
	s.connect(1001, `"device":"web"`)
	s.connect(1001)
	s.connect(1002, `"device":"phone"`)
	node := s.push

	var of *millracev1.SessionsAnswer
	for number := uint64(10); of == nil || slices.ContainsFunc(of.GetSessions(), func(session *millracev1.Session) bool {
		return session.GetQueuedBytes() > 0 // what the session began with is still being written
	}); number++ {
		of = node.ask(t, &millracev1.SessionsQuestion{Number: number, User: 1001, Limit: 10})
	}
	require.EqualValues(t, 3, of.GetTotal())
	require.False(t, of.GetMore())
	var devices []string
	for _, session := range of.GetSessions() {
		require.EqualValues(t, 1001, session.GetUser())
		require.NotEmpty(t, session.GetSession())
		require.GreaterOrEqual(t, session.GetSince(), begin)
		devices = append(devices, session.GetDevice())
	}
	require.ElementsMatch(t, []string{"", "web"}, devices)

	require.Len(t, node.ask(t, &millracev1.SessionsQuestion{Number: 2, Limit: 3}).GetSessions(), 3, "of anybody")
	some := node.ask(t, &millracev1.SessionsQuestion{Number: 3, Limit: 2})
	require.Len(t, some.GetSessions(), 2)
	require.True(t, some.GetMore())
	none := node.ask(t, &millracev1.SessionsQuestion{Number: 4, User: 7, Limit: 2})
	require.Empty(t, none.GetSessions())
	require.EqualValues(t, 3, none.GetTotal())
}

func TestPushNodeDisconnectsADeviceOrAllOfAUser(t *testing.T) {
	s := startSimple(t, connect.Config{})
	web, _ := s.connect(1001, `"device":"web"`)
	phone, _ := s.connect(1001, `"device":"phone"`)
	unnamed, _ := s.connect(1001)
	other, _ := s.connect(1002, `"device":"web"`)
	require.Len(t, s.push.ask(t, &millracev1.SessionsQuestion{Number: 1, User: 1001, Device: "web", Limit: 9, Disconnect: true}).GetSessions(), 1)
	code, reason := web.closedWith()
	require.Equal(t, 4010, code)
	require.Equal(t, "disconnected by the operator", reason)
	rest := s.push.ask(t, &millracev1.SessionsQuestion{Number: 2, User: 1001, Limit: 1, Disconnect: true})
	require.True(t, rest.GetMore(), "what the answer has no room for is closed too")
	for _, c := range []*client{phone, unnamed} {
		code, _ = c.closedWith()
		require.Equal(t, 4010, code)
	}
	other.send(`{"id":2,"ping":{}}`)
	require.NotNil(t, other.read().Pong)
}

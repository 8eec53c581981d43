package api

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

// pushNode knows a session of user 1. It cannot be reached about user 5.
type pushNode struct {
	asked        []*millracev1.ConnectionsRequest
	disconnected []*millracev1.DisconnectRequest
}

func (n *pushNode) Connections(_ context.Context, r *millracev1.ConnectionsRequest) (*millracev1.ConnectionsResponse, error) {
	n.asked = append(n.asked, r)
	if r.GetUser() == 5 {
		return nil, status.Error(codes.Unavailable, "no push node")
	}
	return &millracev1.ConnectionsResponse{
		Gateways: []*millracev1.Gateway{{Name: "a", Users: 1, Sessions: 2}, {Name: "b", Silent: true}},
		Sessions: []*millracev1.Session{{Session: "s", User: 1, Device: "web", Gateway: "a", Since: 9, QueuedBytes: 3}},
		More:     true,
	}, nil
}

func (n *pushNode) Disconnect(_ context.Context, r *millracev1.DisconnectRequest) (*millracev1.DisconnectResponse, error) {
	if r.GetUser() == 5 {
		return nil, status.Error(codes.Unavailable, "gateway a has not confirmed")
	}
	n.disconnected = append(n.disconnected, r)
	return &millracev1.DisconnectResponse{Closed: 2}, nil
}

func TestAdminsAloneDisconnectAUserOrADevice(t *testing.T) {
	c, n := newCallers(t), &pushNode{}
	h := c.serveOperator(t, Config{}, &Service{}, &Operator{Gateways: n})
	for _, key := range []string{"read", "send", "both"} {
		code, _ := c.ask(h, key, "POST", "/v1/users/1:disconnect", `{}`)
		require.Equal(t, 403, code, key)
	}
	require.Empty(t, n.disconnected)
	for _, body := range []string{`{}`, `{"device":"web"}`} {
		code, got := c.ask(h, "admin", "POST", "/v1/users/1:disconnect", body)
		require.Equal(t, 200, code, got)
		require.JSONEq(t, `{"closed":2}`, got)
	}
	require.EqualValues(t, 1, n.disconnected[0].GetUser())
	require.Empty(t, n.disconnected[0].GetDevice())
	require.Equal(t, "web", n.disconnected[1].GetDevice())
	for path, want := range map[string]int{"/v1/users/5:disconnect": 503, "/v1/users/0:disconnect": 400, "/v1/users/x:disconnect": 400} {
		code, got := c.ask(h, "admin", "POST", path, `{}`)
		require.Equal(t, want, code, path+" "+got)
	}
}

func TestSessionsAreListedAsThePushNodeKnowsThem(t *testing.T) {
	c, n := newCallers(t), &pushNode{}
	h := c.serveOperator(t, Config{}, &Service{}, &Operator{Gateways: n})
	code, body := c.ask(h, "read", "GET", "/v1/sessions?user=1", "")
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{"gateways":[{"name":"a","users":1,"sessions":2},{"name":"b","silent":true}],"more":true,
		"sessions":[{"session":"s","user":"1","device":"web","gateway":"a","since":"9","queued_bytes":"3"}]}`, body)
	code, _ = c.ask(h, "read", "GET", "/v1/sessions?limit=7", "")
	require.Equal(t, 200, code)
	require.EqualValues(t, defaultChoice, n.asked[0].GetLimit())
	require.EqualValues(t, 1, n.asked[0].GetUser())
	require.EqualValues(t, 7, n.asked[1].GetLimit())
	for path, want := range map[string]int{
		"/v1/sessions?user=5": 503, "/v1/sessions?user=-1": 400, "/v1/sessions?limit=1001": 400, "/v1/sessions?limit=-1": 400,
	} {
		code, body = c.ask(h, "read", "GET", path, "")
		require.Equal(t, want, code, path+" "+body)
	}
	code, _ = c.ask(h, "send", "GET", "/v1/sessions", "")
	require.Equal(t, 403, code)
}

package api

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

func TestSessionsAreListedAsThePushNodeKnowsThem(t *testing.T) {
	c := newCallers(t)
	var asked []*millracev1.ConnectionsRequest
	h := c.serveOperator(t, Config{}, &Service{}, &Operator{
		Connections: func(_ context.Context, r *millracev1.ConnectionsRequest) (*millracev1.ConnectionsResponse, error) {
			asked = append(asked, r)
			if r.GetUser() == 5 {
				return nil, status.Error(codes.Unavailable, "no push node")
			}
			return &millracev1.ConnectionsResponse{
				Gateways: []*millracev1.Gateway{{Name: "a", Users: 1, Sessions: 2}, {Name: "b", Silent: true}},
				Sessions: []*millracev1.Session{{Session: "s", User: 1, Device: "web", Gateway: "a", Since: 9, QueuedBytes: 3}},
				More:     true,
			}, nil
		},
	})
	code, body := c.ask(h, "read", "GET", "/v1/sessions?user=1", "")
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{"gateways":[{"name":"a","users":1,"sessions":2},{"name":"b","silent":true}],"more":true,
		"sessions":[{"session":"s","user":"1","device":"web","gateway":"a","since":"9","queued_bytes":"3"}]}`, body)
	code, _ = c.ask(h, "read", "GET", "/v1/sessions?limit=7", "")
	require.Equal(t, 200, code)
	require.EqualValues(t, defaultChoice, asked[0].GetLimit())
	require.EqualValues(t, 1, asked[0].GetUser())
	require.EqualValues(t, 7, asked[1].GetLimit())
	for path, want := range map[string]int{
		"/v1/sessions?user=5": 503, "/v1/sessions?user=-1": 400, "/v1/sessions?limit=1001": 400, "/v1/sessions?limit=-1": 400,
	} {
		code, body = c.ask(h, "read", "GET", path, "")
		require.Equal(t, want, code, path+" "+body)
	}
	code, _ = c.ask(h, "send", "GET", "/v1/sessions", "")
	require.Equal(t, 403, code)
}

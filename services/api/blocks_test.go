package api

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

// blocking is a message service that keeps who blocks whom.
type blocking struct {
	millracev1.UnimplementedMessageServiceServer
	by map[int64][]int64
}

func (b *blocking) Block(_ context.Context, r *millracev1.BlockRequest) (*millracev1.BlockResponse, error) {
	if r.GetUser() == r.GetSender().GetUser() {
		return nil, status.Error(codes.InvalidArgument, "oneself")
	}
	b.by[r.GetSender().GetUser()] = append(b.by[r.GetSender().GetUser()], r.GetUser())
	return &millracev1.BlockResponse{}, nil
}

func (b *blocking) Unblock(_ context.Context, r *millracev1.UnblockRequest) (*millracev1.UnblockResponse, error) {
	delete(b.by, r.GetSender().GetUser())
	return &millracev1.UnblockResponse{}, nil
}

func (b *blocking) Blocked(_ context.Context, r *millracev1.BlockedRequest) (*millracev1.BlockedResponse, error) {
	return &millracev1.BlockedResponse{Users: b.by[r.GetUser()]}, nil
}

func TestABackendBlocksInTheNameOfAUser(t *testing.T) {
	c, b := newCallers(t), &blocking{by: map[int64][]int64{}}
	h := c.serve(t, Config{}, &Service{Messages: b})
	for _, step := range []struct {
		key, method, path string
		status            int
		body              string
	}{
		{"send", "PUT", "/v1/users/1/blocked/2", 200, `{}`},
		{"read", "GET", "/v1/users/1/blocked", 200, `{"users":["2"]}`},
		{"read", "GET", "/v1/users/2/blocked", 200, `{}`},
		{"send", "DELETE", "/v1/users/1/blocked/2", 200, `{}`},
		{"read", "GET", "/v1/users/1/blocked", 200, `{}`},
		{"send", "PUT", "/v1/users/1/blocked/1", 400, `{"error":{"code":"invalid_argument","message":"oneself"}}`},
		{"read", "PUT", "/v1/users/1/blocked/2", 403, `{"error":{"code":"permission_denied","message":"the key read does not have the scope send"}}`},
		{"send", "GET", "/v1/users/1/blocked", 403, `{"error":{"code":"permission_denied","message":"the key send does not have the scope read"}}`},
	} {
		code, body := c.ask(h, step.key, step.method, step.path, "")
		require.Equal(t, step.status, code, body)
		require.JSONEq(t, step.body, body)
	}
}

package api

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

// operators is a message node's service for operators, which keeps what it is given.
type operators struct {
	millracev1.UnimplementedOperatorServiceServer
	revoked []*millracev1.RevokeTokensRequest
	notices []*millracev1.SendNoticeRequest
	erased  []*millracev1.EraseUserRequest
}

func (o *operators) RevokeTokens(_ context.Context, r *millracev1.RevokeTokensRequest) (*millracev1.RevokeTokensResponse, error) {
	o.revoked = append(o.revoked, r)
	if r.GetBefore() > 100 {
		return nil, status.Error(codes.InvalidArgument, "before lies ahead")
	}
	return &millracev1.RevokeTokensResponse{Before: 9}, nil
}

func (o *operators) SendNotice(_ context.Context, r *millracev1.SendNoticeRequest) (*millracev1.SendNoticeResponse, error) {
	o.notices = append(o.notices, r)
	if r.GetContent() == "" {
		return nil, status.Error(codes.InvalidArgument, "no content")
	}
	return &millracev1.SendNoticeResponse{NoticeId: "n"}, nil
}

func (o *operators) EraseUser(_ context.Context, r *millracev1.EraseUserRequest) (*millracev1.EraseUserResponse, error) {
	o.erased = append(o.erased, r)
	switch r.GetNext() {
	case "":
		return &millracev1.EraseUserResponse{Messages: 7, Next: "n"}, nil
	case "n":
		return nil, status.Error(codes.Unavailable, "not stored yet")
	}
	return nil, status.Error(codes.InvalidArgument, "next")
}

func TestAdminsAloneEraseUsers(t *testing.T) {
	c, o := newCallers(t), &operators{}
	h := c.serveOperator(t, Config{}, &Service{}, &Operator{Nodes: o})
	code, body := c.ask(h, "both", "POST", "/v1/users/1:erase", `{}`)
	require.Equal(t, 403, code, body)
	require.Empty(t, o.erased)
	for _, test := range []struct {
		user, body string
		status     int
		want       string
	}{
		{"1", `{}`, 200, `{"messages":"7","next":"n"}`},
		{"1", `{"next":"n"}`, 503, `{"error":{"code":"unavailable","message":"not stored yet"}}`},
		{"1", `{"next":"x"}`, 400, `{"error":{"code":"invalid_argument","message":"next"}}`},
		{"0", `{}`, 400, `{"error":{"code":"invalid_argument","message":"user is not from 1 to 9007199254740991"}}`},
	} {
		code, body := c.ask(h, "admin", "POST", "/v1/users/"+test.user+":erase", test.body)
		require.Equal(t, test.status, code, body)
		require.JSONEq(t, test.want, body)
	}
	for _, body := range []string{`{"everything":true}`, `{"next":1}`, `[]`} {
		code, got := c.ask(h, "admin", "POST", "/v1/users/1:erase", body)
		require.Equal(t, 400, code, got)
	}
	require.Len(t, o.erased, 3)
	require.EqualValues(t, 1, o.erased[0].GetUser())
	require.Equal(t, "n", o.erased[1].GetNext())
}

func TestAdminsAloneRevokeTokensAndSendNotices(t *testing.T) {
	c, o := newCallers(t), &operators{}
	h := c.serveOperator(t, Config{}, &Service{}, &Operator{Nodes: o})
	for _, path := range []string{"/v1/users/1/tokens:revoke", "/v1/notices"} {
		code, body := c.ask(h, "both", "POST", path, `{}`)
		require.Equal(t, 403, code, body)
	}
	require.Empty(t, o.revoked)
	require.Empty(t, o.notices)
	for _, test := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/v1/users/1/tokens:revoke", `{"before":7}`, 200, `{"before":"9"}`},
		{"/v1/users/1/tokens:revoke", `{"before":101}`, 400, `{"error":{"code":"invalid_argument","message":"before lies ahead"}}`},
		{"/v1/users/0/tokens:revoke", `{}`, 400, `{"error":{"code":"invalid_argument","message":"user is not from 1 to 9007199254740991"}}`},
		{"/v1/notices", `{"content":"down at ten","extra":{"level":1},"users":[1,"2"]}`, 200, `{"notice_id":"n"}`},
		{"/v1/notices", `{"notice_id":"n","content":"x","user_type":"vip","region":"eu"}`, 200, `{"notice_id":"n"}`},
		{"/v1/notices", `{}`, 400, `{"error":{"code":"invalid_argument","message":"no content"}}`},
	} {
		code, body := c.ask(h, "admin", "POST", test.path, test.body)
		require.Equal(t, test.status, code, body)
		require.JSONEq(t, test.want, body)
	}
	require.EqualValues(t, 1, o.revoked[0].GetUser())
	require.EqualValues(t, 7, o.revoked[0].GetBefore())
	require.Equal(t, []int64{1, 2}, o.notices[0].GetUsers())
	require.JSONEq(t, `{"level":1}`, string(o.notices[0].GetExtra()))
	require.Equal(t, "vip", o.notices[1].GetUserType())
	require.Equal(t, "eu", o.notices[1].GetRegion())
	require.Equal(t, "n", o.notices[1].GetNoticeId())
}

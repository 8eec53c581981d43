package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"millrace/infra/config"
	apiv1 "millrace/proto/millrace/api/v1"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// asks makes a request to the API by HTTP. The response must have the status, and goes into a message unless that is nil.
func (d *dev) asks(t *testing.T, want int, method, path, body string, into proto.Message) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.api.listener.Addr().String()+path, strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, want, response.StatusCode, string(data))
	if into != nil {
		require.NoError(t, protojson.Unmarshal(data, into), string(data))
	}
}

// exports returns what an export of the user has.
func (d *dev) exports(t *testing.T, user int64) string {
	t.Helper()
	url := fmt.Sprintf("http://%s/v1/users/%d/export", d.api.listener.Addr(), user)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(data)
}

// A backend sends in users' names, and sees what they see.
func TestEndToEndABackendSendsAndReadsByTheAPI(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var token apiv1.IssueTokenResponse
	d.asks(t, 200, "POST", "/v1/users/1002/tokens", `{"ttl_seconds":600,"region":"eu"}`, &token)
	b, err := client.Dial(t.Context(), client.Config{URL: d.url(), Token: func(context.Context) (string, error) { return token.GetToken(), nil }})
	require.NoError(t, err)
	require.NoError(t, b.Close())

	a := proof.Join(t, d.url(), proof.Alice, nil)
	var sessions apiv1.ListSessionsResponse
	d.asks(t, 200, "GET", "/v1/sessions?user=1001", "", &sessions)
	require.Len(t, sessions.GetSessions(), 1)
	require.EqualValues(t, proof.Alice, sessions.GetSessions()[0].GetUser())
	require.Equal(t, sessions.GetGateways()[0].GetName(), sessions.GetSessions()[0].GetGateway())
	var created, again apiv1.CreateGroupResponse
	d.asks(t, 200, "POST", "/v1/groups", `{"owner":1001,"name":"Orders","client_msg_id":"orders"}`, &created)
	d.asks(t, 200, "POST", "/v1/groups", `{"owner":1001,"name":"Orders","client_msg_id":"orders"}`, &again)
	id := created.GetGroup().GetGroupId()
	require.Equal(t, id, again.GetGroup().GetGroupId())
	group := fmt.Sprint("/v1/groups/", id)
	d.asks(t, 200, "PUT", group+"/members/1002", `{}`, nil)
	d.asks(t, 200, "PATCH", group, `{"name":"Shipped orders"}`, nil)
	var got apiv1.GetGroupResponse
	d.asks(t, 200, "GET", group, "", &got)
	require.Equal(t, "Shipped orders", got.GetGroup().GetName())
	require.EqualValues(t, proof.Bob, a.Sees(t, "member_joined").User)

	d.asks(t, 200, "PUT", group+"/members/1002/role", `{"role":"admin"}`, nil)
	a.Sees(t, "member_role")
	d.asks(t, 200, "POST", group+"/mutes", `{"until":4102444800}`, nil)
	d.asks(t, 200, "GET", group, "", &got)
	require.Equal(t, []int64{proof.Bob}, got.GetGroup().GetAdmins())
	require.EqualValues(t, 4102444800, got.GetGroup().GetMutedUntil())
	d.asks(t, 400, "PUT", group+"/members/1002/role", `{"role":"king"}`, nil)

	send := fmt.Sprintf(`{"from":1002,"group_id":%d,"content":"on its way","client_msg_id":"order 7","extra":{"order":7}}`, id)
	var sent, repeated apiv1.SendMessageResponse
	d.asks(t, 200, "POST", "/v1/messages", send, &sent)
	d.asks(t, 200, "POST", "/v1/messages", send, &repeated)
	require.Equal(t, sent.GetMessageId(), repeated.GetMessageId())
	message := a.Sees(t, "new_message").Message
	require.Equal(t, sent.GetMessageId(), message.MessageID)
	require.JSONEq(t, `{"order":7}`, string(message.Extra))
	conversation := "/v1/conversations/" + sent.GetConversation()
	d.asks(t, 200, "PATCH", conversation+"/messages/"+message.MessageID, `{"user":1002,"content":"it is there"}`, nil)
	require.Equal(t, "it is there", a.Sees(t, "message_edited").Content)
	var page apiv1.ListMessagesResponse
	d.asks(t, 200, "GET", conversation+"/messages?user=1001&limit=1", "", &page)
	require.Equal(t, "it is there", page.GetMessages()[0].GetContent())
	var heads apiv1.ListConversationsResponse
	d.asks(t, 200, "GET", "/v1/users/1001/conversations", "", &heads)
	require.Equal(t, sent.GetConversation(), heads.GetConversations()[0].GetConversation())
	d.asks(t, 200, "DELETE", conversation+"/messages/"+message.MessageID+"?user=1002", "", nil)
	require.Equal(t, message.MessageID, a.Sees(t, "message_recalled").MessageID)

	direct := `{"from":1001,"to":1002,"content":"hello"}`
	d.asks(t, 200, "PUT", "/v1/users/1002/blocked/1001", "", nil)
	d.asks(t, 403, "POST", "/v1/messages", direct, nil)
	var blocked apiv1.ListBlockedResponse
	d.asks(t, 200, "GET", "/v1/users/1002/blocked", "", &blocked)
	require.Equal(t, []int64{proof.Alice}, blocked.GetUsers())
	d.asks(t, 200, "DELETE", "/v1/users/1002/blocked/1001", "", nil)
	d.asks(t, 200, "POST", "/v1/messages", direct, nil)

	d.asks(t, 403, "DELETE", group+"/members/1001?by=1002", "", nil)
	d.asks(t, 200, "DELETE", group+"/members/1002", "", nil)
	require.EqualValues(t, proof.Bob, a.Sees(t, "member_left").User)
	d.asks(t, 404, "GET", conversation+"/messages?user=1003", "", nil)
	exported := d.exports(t, proof.Bob)
	require.Contains(t, exported, sent.GetMessageId(), "it was in the group then")
	require.Contains(t, exported, `"hello"`)
	require.Contains(t, exported, `{"end":{"messages":2}}`)
	d.asks(t, 200, "DELETE", group, "", nil)
	a.Sees(t, "group_dissolved")
	d.asks(t, 200, "POST", "/v1/notices", `{"content":"down at ten","users":[1001]}`, nil)
	require.Equal(t, "down at ten", a.Sees(t, "system_notice").Content)
	d.asks(t, 400, "POST", "/v1/notices", `{}`, nil)
	var before apiv1.RevokeTokensResponse
	d.asks(t, 200, "POST", "/v1/users/1001/tokens:revoke", `{"before":5}`, &before)
	require.EqualValues(t, 5, before.GetBefore())
	var disconnected apiv1.DisconnectUserResponse
	d.asks(t, 200, "POST", "/v1/users/1001:disconnect", `{"device":"another"}`, &disconnected)
	require.Zero(t, disconnected.GetClosed())
	d.asks(t, 200, "POST", "/v1/users/1001:disconnect", `{}`, &disconnected)
	require.EqualValues(t, 1, disconnected.GetClosed())
	<-a.Done()
	require.ErrorIs(t, a.Err(), client.ErrDisconnected)
	d.asks(t, 404, "GET", "/v1/groups/1", "", nil)
}

// A message node serves the API by gRPC too, to those who have a key.
func TestTheAPIOfAMessageNodeTakesKeysAlone(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	printed, err := run(t, "api-key", "--name=shop", "--scopes=send")
	require.NoError(t, err)
	lines := strings.Split(printed, "\n")
	secret := strings.TrimSpace(lines[1])
	_, setting, _ := strings.Cut(lines[3], "=")
	printed, err = run(t, "api-key", "--name=ops", "--scopes=read")
	require.NoError(t, err)
	ops := strings.Split(printed, "\n")
	_, opsSetting, _ := strings.Cut(ops[3], "=")
	var node *apiServer
	stop := startInside(t, config.Message, fx.Populate(&node), "--data-dir="+t.TempDir(), "--kafka-brokers="+d.brokers[0],
		"--message-addr=127.0.0.1:0", "--api-keys="+setting+","+opsSetting,
		"--handlers=users", "--push-addrs="+d.grpc.Addr())
	t.Cleanup(stop)
	conn, err := grpc.NewClient(node.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	calls := apiv1.NewApiServiceClient(conn)
	with := func(secret string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret)
	}

	sent, err := calls.SendMessage(with(secret), &apiv1.SendMessageRequest{From: 1, To: 2, Content: "hello"})
	require.NoError(t, err)
	require.Equal(t, "u:1:2", sent.GetConversation())
	list, err := apiv1.NewOperatorServiceClient(conn).ListSessions(with(strings.TrimSpace(ops[1])), &apiv1.ListSessionsRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetGateways(), 1, "it asks the other node, which runs push")
	for name, test := range map[string]struct {
		secret string
		want   codes.Code
	}{"no key": {"", codes.Unauthenticated}, "a wrong key": {secret + "x", codes.Unauthenticated}, "the scope of another": {secret, codes.PermissionDenied}} {
		_, err := calls.ListMessages(with(test.secret), &apiv1.ListMessagesRequest{User: 1, Conversation: "u:1:2"})
		require.Equal(t, test.want, status.Code(err), "%s: %v", name, err)
	}
}

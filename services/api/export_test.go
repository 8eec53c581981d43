package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// life is what the system has of user 1: a conversation with 250 messages, and a group that it has left.
type life struct {
	millracev1.UnimplementedMessageServiceServer
	Store
	down   bool // the store
	listed atomic.Int32
	hold   chan struct{} // if not nil, Blocked waits for it
}

func (l *life) Blocked(ctx context.Context, _ *millracev1.BlockedRequest) (*millracev1.BlockedResponse, error) {
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &millracev1.BlockedResponse{Users: []int64{3}}, nil
}

// Conversations lists a group that gets a message while the list is read, so that it comes to the list's head.
func (l *life) Conversations(_ context.Context, r *millracev1.ConversationsRequest) (*millracev1.ConversationsResponse, error) {
	direct := &millracev1.ConversationHead{Conversation: "u:1:2", ReadSeq: 7, Pinned: true, Last: &millracev1.StoredMessage{Content: "m"}, Next: "n"}
	group := &millracev1.ConversationHead{Conversation: "g:5", Next: "n"}
	first := l.listed.Add(1) == 1
	switch {
	case r.GetNext() == "n":
		return &millracev1.ConversationsResponse{}, nil
	case first:
		return &millracev1.ConversationsResponse{Conversations: []*millracev1.ConversationHead{direct}, More: true}, nil
	}
	return &millracev1.ConversationsResponse{Conversations: []*millracev1.ConversationHead{group, direct}}, nil
}

func (l *life) GetGroup(_ context.Context, r *millracev1.GetGroupRequest) (*millracev1.GetGroupResponse, error) {
	return &millracev1.GetGroupResponse{Group: &millracev1.Group{GroupId: r.GetGroupId(), Name: "five"}}, nil
}

func (l *life) History(_ context.Context, r *millracev1.HistoryRequest) (*millracev1.HistoryResponse, error) {
	if r.GetUser() != 1 || r.GetConversation() == "g:6" {
		return nil, status.Error(codes.NotFound, "no such group")
	}
	response := &millracev1.HistoryResponse{}
	if r.GetConversation() == "u:1:2" {
		for seq := r.GetAfterSeq() + 1; seq <= 250 && len(response.GetMessages()) < int(r.GetLimit()); seq++ {
			response.Messages = append(response.Messages, &millracev1.StoredMessage{Seq: seq, MessageId: fmt.Sprint("m", seq), From: 1, To: 2, Content: "line\nbreak"})
			response.More = seq < 250
		}
	}
	return response, nil
}

func (l *life) Participations(context.Context, int64) ([]string, error) {
	if l.down {
		return nil, errors.New("down")
	}
	return []string{"g:5", "u:1:2"}, nil
}

func (l *life) Subscriptions(context.Context, []int64) (map[int64][]store.Subscription, error) {
	return map[int64][]store.Subscription{1: {{Endpoint: "https://push.example/secret", P256dh: "secret", Auth: "secret"}}}, nil
}

func TestExportHasAllOfAUserButWhatAllowsToSendToItsBrowsers(t *testing.T) {
	c, l := newCallers(t), &life{}
	code, body := c.ask(c.serve(t, Config{}, &Service{Messages: l, Store: l}), "admin", "GET", "/v1/users/1/export", "")
	require.Equal(t, 200, code, body)
	require.NotContains(t, body, "secret")
	lines := strings.Split(body, "\n")
	for i, want := range []string{
		`{"blocked":{"user":3}}`, `{"subscription":{"push_service":"push.example"}}`,
		`{"conversation":{"conversation":"u:1:2","read_seq":"7","pinned":true}}`,
		`{"conversation":{"conversation":"g:5"}}`, `{"group":{"group_id":"5","name":"five"}}`,
		`{"message":{"seq":"1","message_id":"m1","from":"1","to":"2","content":"line\nbreak"}}`,
	} {
		require.JSONEq(t, want, lines[i])
	}
	require.Len(t, lines, 5+250+1)
	require.JSONEq(t, `{"end":{"messages":250}}`, lines[len(lines)-1])
}

func TestExportThatCannotGoOnSaysSo(t *testing.T) {
	c := newCallers(t)
	l := &life{down: true}
	_, body := c.ask(c.serve(t, Config{}, &Service{Messages: l, Store: l}), "admin", "GET", "/v1/users/1/export", "")
	last := body[strings.LastIndex(body, "\n")+1:]
	require.JSONEq(t, `{"error":{"code":"unavailable","message":"the store cannot be read"}}`, last)
}

func TestExportIsRefusedToOthersThanAdmins(t *testing.T) {
	c, l := newCallers(t), &life{}
	h := c.serve(t, Config{}, &Service{Messages: l, Store: l})
	for key, want := range map[string]int{"read": 403, "send": 403, "both": 403} {
		code, body := c.ask(h, key, "GET", "/v1/users/1/export", "")
		require.Equal(t, want, code, body)
	}
	for _, user := range []string{"0", "-1", "x", "9007199254740992"} {
		code, body := c.ask(h, "admin", "GET", "/v1/users/"+user+"/export", "")
		require.Equal(t, 400, code, body)
	}
}

func TestOnlySoManyExportsRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := newCallers(t), &life{hold: make(chan struct{})}
		h := c.serve(t, Config{}, &Service{Messages: l, Store: l})
		answers := make(chan int, maxExports+1)
		for range maxExports + 1 {
			go func() {
				code, _ := c.ask(h, "admin", "GET", "/v1/users/1/export", "")
				answers <- code
			}()
		}
		synctest.Wait()
		require.Equal(t, 429, <-answers)
		close(l.hold)
		var rest []int
		for range maxExports {
			rest = append(rest, <-answers)
		}
		require.Equal(t, slices.Repeat([]int{200}, maxExports), rest)
	})
}

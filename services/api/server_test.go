package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/auth"
	"millrace/infra/panics"
	"millrace/infra/store"
	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// messages is a message service that keeps what it is given.
type messages struct {
	millracev1.UnimplementedMessageServiceServer
	sent []*millracev1.SendWSMessageRequest
	left []*millracev1.LeaveGroupRequest
	err  error
}

func (m *messages) SendWSMessage(_ context.Context, r *millracev1.SendWSMessageRequest) (*millracev1.SendWSMessageResponse, error) {
	if r.GetContent() == "panic" {
		panic("content")
	}
	m.sent = append(m.sent, r)
	return &millracev1.SendWSMessageResponse{MessageId: "m1", Conversation: "u:1:2", Timestamp: 7}, m.err
}

func (m *messages) History(_ context.Context, r *millracev1.HistoryRequest) (*millracev1.HistoryResponse, error) {
	return &millracev1.HistoryResponse{More: r.GetAfterSeq() == 5, Messages: []*millracev1.StoredMessage{
		{Seq: 9007199254740993, MessageId: "m1", From: r.GetUser(), Content: r.GetConversation(), Extra: []byte(`{"a":[1,"b"]}`)},
	}}, nil
}

func (m *messages) LeaveGroup(_ context.Context, r *millracev1.LeaveGroupRequest) (*millracev1.LeaveGroupResponse, error) {
	m.left = append(m.left, r)
	return &millracev1.LeaveGroupResponse{}, nil
}

func (m *messages) GetGroup(_ context.Context, r *millracev1.GetGroupRequest) (*millracev1.GetGroupResponse, error) {
	return &millracev1.GetGroupResponse{Group: &millracev1.Group{GroupId: r.GetGroupId(), Owner: r.GetUser(), Name: "g"}}, nil
}

// groups is a store that has group 5, of user 1.
type groups struct{ Store }

func (groups) Group(_ context.Context, id int64) (store.Group, error) {
	if id != 5 {
		return store.Group{}, store.ErrNotFound
	}
	return store.Group{ID: 5, Grants: store.Founded(1)}, nil
}

// callers has a secret of each name, which permits what the name says.
type callers struct {
	keys    auth.APIKeys
	secrets map[string]string
}

func newCallers(t *testing.T) *callers {
	c := &callers{secrets: map[string]string{}}
	for name, scopes := range map[string][]auth.Scope{
		"read": {auth.ScopeRead}, "send": {auth.ScopeSend}, "both": {auth.ScopeRead, auth.ScopeSend}, "admin": {auth.ScopeAdmin},
	} {
		secret, setting, err := auth.DrawAPIKey(name, scopes)
		require.NoError(t, err)
		key, err := auth.ParseAPIKey(setting)
		require.NoError(t, err)
		c.keys, c.secrets[name] = append(c.keys, key), secret
	}
	return c
}

func (c *callers) serve(t *testing.T, cfg Config, service *Service) http.Handler {
	t.Helper()
	return c.serveOperator(t, cfg, service, &Operator{})
}

func (c *callers) serveOperator(t *testing.T, cfg Config, service *Service, operator *Operator) http.Handler {
	t.Helper()
	cfg.Keys = c.keys
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Panics = panics.New(prometheus.NewRegistry(), cfg.Log)
	if cfg.Publisher == nil {
		cfg.Publisher = &topic{}
	}
	if cfg.Rate == 0 {
		cfg.Rate = 1000
	}
	handler, err := New(t.Context(), cfg, service, operator)
	require.NoError(t, err)
	return handler
}

// ask makes a request with the key of the name and returns the status and the body.
func (c *callers) ask(h http.Handler, name, method, path, body string, header ...string) (int, string) {
	r := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	if secret := c.secrets[name]; secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	data, _ := io.ReadAll(w.Body)
	return w.Code, strings.TrimSpace(string(data))
}

func TestRefusalOfABodyIsTheSameInEveryBuild(t *testing.T) {
	c := newCallers(t)
	_, body := c.ask(c.serve(t, Config{}, &Service{}), "send", "POST", "/v1/messages", `{"form":1}`)
	require.JSONEq(t, `{"error":{"code":"invalid_argument","message":"malformed body (line 1:2): unknown field \"form\""}}`, body)
}

func TestRequestsReachTheMessageServiceAndComeBackAsJSON(t *testing.T) {
	c, m := newCallers(t), &messages{}
	h := c.serve(t, Config{}, &Service{Messages: m, Store: groups{}, SystemUser: 99})

	code, body := c.ask(h, "send", "POST", "/v1/messages", `{"from":1,"to":"2","content":"hi","client_msg_id":"k","extra":{"a":1}}`)
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{"message_id":"m1","conversation":"u:1:2","timestamp":"7"}`, body)
	code, body = c.ask(h, "admin", "POST", "/v1/messages", `{"group_id":5,"content":"hi"}`)
	require.Equal(t, 200, code, body)
	require.EqualValues(t, 1, m.sent[0].GetSender().GetUser())
	require.JSONEq(t, `{"a":1}`, string(m.sent[0].GetExtra()))
	require.EqualValues(t, 99, m.sent[1].GetSender().GetUser(), "the system")

	code, body = c.ask(h, "read", "GET", "/v1/conversations/u:1:2/messages?user=1&after_seq=5", "")
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{"more":true,"messages":[{"seq":"9007199254740993","message_id":"m1","from":"1","content":"u:1:2","extra":{"a":[1,"b"]}}]}`, body)

	code, body = c.ask(h, "read", "GET", "/v1/groups/5", "")
	require.Equal(t, 200, code, body)
	require.JSONEq(t, `{"group":{"group_id":"5","owner":"1","name":"g"}}`, body)
	code, body = c.ask(h, "send", "DELETE", "/v1/groups/5/members/3?by=3", "")
	require.Equal(t, 200, code, body)
	require.EqualValues(t, 3, m.left[0].GetSender().GetUser())
}

func TestErrorsHaveOneForm(t *testing.T) {
	c := newCallers(t)
	m := &messages{}
	h := c.serve(t, Config{}, &Service{Messages: m, Store: groups{}})
	for name, test := range map[string]struct {
		key, method, path, body string
		err                     error
		status                  int
		code                    string
	}{
		"the service's":       {"send", "POST", "/v1/messages", `{"from":1,"to":2}`, status.Error(codes.FailedPrecondition, "spam"), 422, "rejected"},
		"too large":           {"send", "POST", "/v1/messages", `{"from":1,"to":2}`, status.Error(codes.OutOfRange, "large"), 413, "too_large"},
		"unavailable":         {"send", "POST", "/v1/messages", `{"from":1,"to":2}`, status.Error(codes.Unavailable, "soon"), 503, "unavailable"},
		"a panic":             {"send", "POST", "/v1/messages", `{"from":1,"to":2,"content":"panic"}`, nil, 500, "internal"},
		"no JSON":             {"send", "POST", "/v1/messages", `{`, nil, 400, "invalid_argument"},
		"an unknown member":   {"send", "POST", "/v1/messages", `{"form":1}`, nil, 400, "invalid_argument"},
		"no system user":      {"send", "POST", "/v1/messages", `{"to":2}`, nil, 400, "invalid_argument"},
		"a word for a number": {"read", "GET", "/v1/groups/five", ``, nil, 400, "invalid_argument"},
		"an unknown group":    {"read", "GET", "/v1/groups/6", ``, nil, 404, "not_found"},
		"an id out of bounds": {"read", "GET", "/v1/groups/-1", ``, nil, 400, "invalid_argument"},
		"no such path":        {"read", "GET", "/v1/nothing", ``, nil, 404, "not_found"},
		"no such method":      {"read", "PUT", "/v1/messages", ``, nil, 404, "not_found"},
		"outside":             {"read", "GET", "/else", ``, nil, 404, "not_found"},
		"no secret":           {"both", "POST", "/v1/users/1/tokens", `{}`, nil, 422, "rejected"},
		"no such span":        {"read", "GET", "/v1/statistics/year", ``, nil, 400, "invalid_argument"},
		"too long a body":     {"send", "POST", "/v1/messages", `{"content":"` + strings.Repeat("x", maxRequest) + `"}`, nil, 400, "invalid_argument"},
	} {
		t.Run(name, func(t *testing.T) {
			m.err = test.err
			httpStatus, body := c.ask(h, test.key, test.method, test.path, test.body)
			var got refusal
			require.NoError(t, json.Unmarshal([]byte(body), &got), body)
			require.Equal(t, test.status, httpStatus, body)
			require.Equal(t, test.code, got.Error.Code)
			require.NotEmpty(t, got.Error.Message)
		})
	}
}

func services() []grpc.ServiceDesc {
	return []grpc.ServiceDesc{apiv1.ApiService_ServiceDesc, apiv1.OperatorService_ServiceDesc}
}

// Every call needs a key with its scopes, whatever calls there are.
func TestEveryCallHasScopesAndIsRefusedWithoutThem(t *testing.T) {
	all, calls := scopes(), 0
	for _, desc := range services() {
		for _, m := range desc.Methods {
			require.NotEmpty(t, all["/"+desc.ServiceName+"/"+m.MethodName], m.MethodName)
			calls++
		}
		require.Empty(t, desc.Streams)
	}
	require.Len(t, all, calls)

	c := newCallers(t)
	h := c.serve(t, Config{}, &Service{Messages: &messages{}, Sign: func(auth.Identity) (string, error) { return "signed", nil }})
	for _, test := range []struct {
		key    string
		status int
	}{{"read", 403}, {"send", 403}, {"both", 200}, {"admin", 200}} {
		code, body := c.ask(h, test.key, "POST", "/v1/users/1/tokens", `{"ttl_seconds":60}`)
		require.Equal(t, test.status, code, test.key+" "+body)
	}
	code, _ := c.ask(h, "read", "POST", "/v1/messages", `{"from":1,"to":2}`)
	require.Equal(t, 403, code)
	code, _ = c.ask(h, "send", "GET", "/v1/conversations/u:1:2/messages?user=1", "")
	require.Equal(t, 403, code)
}

func TestWrongKeysAreRefusedSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCallers(t)
		h := c.serve(t, Config{}, &Service{})
		codes := make(chan int)
		for range maxWaiting + 1 {
			go func() {
				code, _ := c.ask(h, "", "GET", "/v1/groups/5", "", "Authorization", "Bearer mrk_guessed")
				codes <- code
			}()
		}
		synctest.Wait()
		require.Equal(t, http.StatusTooManyRequests, <-codes, "the one that is too many does not wait")
		synctest.Wait()
		select {
		case <-codes:
			require.Fail(t, "refused without a delay")
		default:
		}
		for range maxWaiting {
			require.Equal(t, http.StatusUnauthorized, <-codes)
		}
	})
}

func TestAKeyMakesOnlySoManyRequests(t *testing.T) {
	c := newCallers(t)
	h := c.serve(t, Config{Rate: 2}, &Service{Messages: &messages{}, Store: groups{}})
	var last int
	for range 3 {
		last, _ = c.ask(h, "read", "GET", "/v1/groups/5", "")
	}
	require.Equal(t, http.StatusTooManyRequests, last)
	code, _ := c.ask(h, "admin", "GET", "/v1/groups/5", "")
	require.Equal(t, 200, code, "another key")
}

func TestPagesOfOtherOriginsMayNotCall(t *testing.T) {
	c := newCallers(t)
	open := &auth.APIKey{Name: "dev", Scopes: []auth.Scope{auth.ScopeAdmin}}
	m := &messages{}
	h := c.serve(t, Config{Open: open, Origins: []string{"https://shop.example"}}, &Service{Messages: m, Store: groups{}})
	for origin, want := range map[string]int{
		"https://evil.example": 403, "null": 403, "https://shop.example": 200, "http://example.com": 200, // httptest's own host
	} {
		code, _ := c.ask(h, "", "POST", "/v1/messages", `{"from":1,"to":2}`, "Origin", origin, "Content-Type", "text/plain")
		require.Equal(t, want, code, origin)
		code, _ = c.ask(h, "", "OPTIONS", "/v1/messages", "", "Origin", origin, "Access-Control-Request-Method", "POST")
		if want == 200 {
			want = http.StatusNoContent
		}
		require.Equal(t, want, code, origin)
	}
	require.Len(t, m.sent, 2)
	code, _ := c.ask(h, "", "GET", "/v1/groups/5", "")
	require.Equal(t, 200, code, "no page")
}

func TestOpenAPIHasEveryCall(t *testing.T) {
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	c := newCallers(t)
	code, body := c.ask(c.serve(t, Config{}, &Service{}), "", "GET", "/openapi.json", "")
	require.Equal(t, 200, code)
	require.NoError(t, json.Unmarshal([]byte(body), &document))
	var operations []string
	for _, path := range document.Paths {
		for _, operation := range path {
			operations = append(operations, operation.OperationID)
		}
	}
	var calls []string
	for _, desc := range services() {
		for _, m := range desc.Methods {
			calls = append(calls, strings.TrimPrefix(desc.ServiceName, "millrace.api.v1.")+"_"+m.MethodName)
		}
	}
	require.ElementsMatch(t, calls, operations)
}

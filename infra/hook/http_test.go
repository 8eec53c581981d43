package hook

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keys(t testing.TB) signature.Keys {
	t.Helper()
	k, err := signature.ParseKeys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	return k
}

// receiver runs an endpoint and returns a hook that asks it.
func receiver(t testing.TB, answer http.HandlerFunc) *HTTP {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	h := NewHTTP(server.URL+"/hook", keys(t))
	t.Cleanup(h.Close)
	return h
}

func drafts() []Draft {
	return []Draft{
		{Message: &events.Message{
			MessageID: "m1", Conversation: "u:1:2", From: 1, To: 2, Content: "hello", MessageType: 1, Timestamp: 5, Extra: events.Extra(`{"a":1}`),
		}, UserType: "vip", Region: "eu", Tags: []string{"seen"}},
		{Message: &events.Message{
			MessageID: "m2", Conversation: "g:7", From: 1, GroupID: 7, Content: "again", MessageType: 100, Timestamp: 5,
		}, Edit: true},
	}
}

func TestAllDraftsAreAskedAboutWithOneSignedRequest(t *testing.T) {
	var body string
	var header http.Header
	requests := 0
	h := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		read, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		body, header = string(read), r.Header
		requests++
		_, _ = io.WriteString(w, `{"verdicts":[{"content":"***","extra":{"b":2}},{"reject":"not today"}]}`)
	})
	verdicts, err := h.Review(t.Context(), drafts())
	require.NoError(t, err)
	require.Equal(t, []Verdict{{Content: "***", Extra: events.Extra(`{"b":2}`)}, {Reject: "not today"}}, verdicts)
	require.Equal(t, 1, requests)

	var sent map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(body), &sent))
	require.JSONEq(t, `"message.review"`, string(sent["type"]))
	require.JSONEq(t, `{"messages":[
		{"message_id":"m1","conversation":"u:1:2","from":1,"to":2,"content":"hello","message_type":1,"extra":{"a":1},
		 "user_type":"vip","region":"eu","tags":["seen"]},
		{"message_id":"m2","conversation":"g:7","from":1,"group_id":7,"content":"again","message_type":100,"edit":true}
	]}`, string(sent["data"]))

	seconds, err := strconv.ParseInt(header.Get(signature.HeaderTimestamp), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.Unix(seconds, 0), time.Minute)
	want := http.Header{}
	keys(t).Sign(want, header.Get(signature.HeaderID), time.Unix(seconds, 0), []byte(body))
	require.Equal(t, want.Get(signature.HeaderSignature), header.Get(signature.HeaderSignature))
}

func TestAnswerThatIsNoneIsAnError(t *testing.T) {
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"garbage":             {text(200, "<html>"), "answer"},
		"empty":               {text(200, ""), "answer"},
		"a misspelled member": {text(200, `{"verdicts":[{"rejct":"x"},{}]}`), "unknown"},
		"a member twice":      {text(200, `{"verdicts":[],"verdicts":[{},{}]}`), "duplicate"},
		"another type":        {text(200, `{"verdicts":[{"reject":true},{}]}`), "answer"},
		"two values":          {text(200, `{"verdicts":[{},{}]}{}`), "answer"},
		"an error":            {text(500, `{"verdicts":[{},{}]}`), "status 500"},
		"nothing to say":      {text(204, ""), "status 204"},
		"another place": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "status 307"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			for chunk := strings.Repeat(" ", 1<<20); ; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}, "more than"},
		"closed in the middle": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"verdicts":[`)
		}, "EOF"},
		"closed at once": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			h := receiver(t, c.answer)
			_, err := h.Review(t.Context(), drafts())
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "/hook", "it may hold a password")
		})
	}
}

func TestEndpointThatIsAwayIsAnErrorAtOnceAndASlowOneWhenTheTimeIsUp(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	away := NewHTTP("http://user:secret@"+closed.Addr().String()+"/hook", keys(t))
	defer away.Close()
	_, err = away.Review(t.Context(), drafts())
	require.ErrorContains(t, err, "refused")
	require.NotContains(t, err.Error(), "secret")

	hold := make(chan struct{})
	slow := receiver(t, func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = slow.Review(ctx, drafts())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), 3*time.Second)
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"verdicts":[{"content":"***"},{"reject":"no"}]}`)
	f.Add(`{"verdicts":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		verdicts, err := verdictsIn([]byte(body))
		if err == nil && len(verdicts) > len(body) {
			t.Fatal("more verdicts than bytes")
		}
	})
}

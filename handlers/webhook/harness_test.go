package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a [Store].
type memory struct {
	mu   sync.Mutex
	gone map[string]string // the URLs of disabled endpoints by name
	err  error
}

func (m *memory) WebhookDisabled(_ context.Context, name, url string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone[name] == url, m.err
}

func (m *memory) DisableWebhook(_ context.Context, name, url string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.gone[name] = url
	}
	return m.err
}

func (m *memory) enable(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.gone, name)
}

// receiver is an HTTP endpoint that checks signatures and notes what it gets.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	keys   signature.Keys

	mu  sync.Mutex
	got []request
}

type request struct {
	id   string
	body body
}

// receive starts a receiver that answers by the function, after the request was noted.
func receive(t *testing.T, answer http.HandlerFunc) *receiver {
	r := newReceiver(t, answer)
	r.server.Start()
	return r
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	keys, err := signature.ParseKeys(secret)
	require.NoError(t, err)
	r := &receiver{t: t, keys: keys}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.note(request)
		answer(w, request)
	}))
	r.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) note(q *http.Request) {
	data, err := io.ReadAll(q.Body)
	assert.NoError(r.t, err)
	q.Body = io.NopCloser(bytes.NewReader(data))
	seconds, err := strconv.ParseInt(q.Header.Get("webhook-timestamp"), 10, 64)
	assert.NoError(r.t, err)
	assert.WithinDuration(r.t, time.Now(), time.Unix(seconds, 0), time.Minute)
	want := http.Header{}
	r.keys.Sign(want, q.Header.Get("webhook-id"), time.Unix(seconds, 0), data)
	assert.Equal(r.t, want.Get("webhook-signature"), q.Header.Get("webhook-signature"))
	var b body
	assert.NoError(r.t, json.Unmarshal(data, &b))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, request{q.Header.Get("webhook-id"), b})
}

// positions returns the positions of the requests in the order in which they came.
func (r *receiver) positions() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.got {
		all = append(all, q.body.Pos)
	}
	return all
}

func (r *receiver) endpoint() Endpoint {
	return Endpoint{
		Name: "crm", URL: r.server.URL + "/hook?token=hunter2", Keys: r.keys, InOrder: true, Timeout: 3 * time.Second, Parallel: 4, AllowPrivate: true,
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// open returns the endpoint as the module would make it.
func open(t *testing.T, e Endpoint, trust *tls.Config) (*endpoint, *memory) {
	t.Helper()
	store := &memory{gone: map[string]string{}}
	w := newWebhooks([]Endpoint{e}, store, trust, slog.New(slog.DiscardHandler))
	w.Start(t.Context())
	t.Cleanup(w.Stop)
	return w.endpoints[0], store
}

// message returns a message of user 1 to the other user.
func message(to, seq int64) events.Record {
	m := &events.Message{
		ClientMsgID: fmt.Sprint(seq), Conversation: events.Direct(1, to), From: 1, To: to, Content: "<hello> & goodbye", MessageType: 1, Timestamp: 1642678800,
	}
	m.MessageID = events.MessageID(m.From, m.Conversation, m.ClientMsgID)
	return events.Record{
		Event:    events.Event{Type: events.NewMessage, EventID: m.MessageID, Message: m, Timestamp: 1642678800},
		Position: events.Position{Partition: 7, Seq: seq},
	}
}

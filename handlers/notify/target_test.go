package notify

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/handlers/webhook"
	"millrace/infra/signature"
)

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestBrowserThatHasUnsubscribedIsForgotten(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, nil, service.server)
	lost := service.subscribe("/lost-secret")
	k.subscribes(bob, lost, service.subscribe("/there"))
	service.mu.Lock()
	delete(service.browsers, "/lost-secret")
	service.mu.Unlock()
	k.says(alice, bob, 10)
	k.passes(30 * time.Second)
	require.Len(t, service.pushes(), 1)
	k.requireSent(channelWebPush, "gone", 1)
	k.requireSent(channelWebPush, "sent", 1)
	k.store.with(func() { require.Len(t, k.store.browsers[bob], 1) })
	require.NotContains(t, k.logs.String(), "secret")
}

func TestRefusalIsToldAndNotRepeated(t *testing.T) {
	service := servePushes(t, status(http.StatusForbidden))
	k := newKit(t, nil, service.server)
	s := service.subscribe("/endpoint-secret")
	k.subscribes(bob, s)
	k.says(alice, bob, 10)
	k.passes(30 * time.Second)
	require.Len(t, service.pushes(), 1)
	k.passes(time.Minute)
	require.Empty(t, service.pushes())
	k.requireSent(channelWebPush, "refused", 1)
	require.Contains(t, k.logs.String(), "403 Forbidden")
	for _, secret := range []string{"endpoint-secret", s.Auth, s.P256dh, privateKey} {
		require.NotContains(t, k.logs.String(), secret)
	}
}

func TestAddressInsideOfTheNetworkIsRefused(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, func(c *Config) { c.AllowPrivate = false }, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	k.says(alice, bob, 10)
	k.passes(30 * time.Second)
	require.Empty(t, service.pushes())
	k.requireSent(channelWebPush, "refused", 1)
}

func TestOnlyTheTargetThatFailsGetsItAgain(t *testing.T) {
	var failing atomic.Bool
	failing.Store(true)
	service := servePushes(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/weak" && failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	k := newKit(t, nil, service.server)
	k.subscribes(bob, service.subscribe("/strong"), service.subscribe("/weak"))
	k.says(alice, bob, 10)
	k.passes(30 * time.Second)
	require.Len(t, service.pushes(), 2)
	k.passes(time.Second)
	require.Empty(t, service.pushes())
	k.says(alice, bob, 11)
	k.passes(29 * time.Second)
	again := service.pushes()
	require.Equal(t, []string{"/weak"}, []string{again[0].path})
	require.Equal(t, 1, again[0].payload.Count)
	failing.Store(false)
	k.passes(time.Second)
	require.Len(t, service.pushes(), 2, "the second message goes to both")
	k.passes(time.Minute)
	require.Len(t, service.pushes(), 1)
	k.requireSent(channelWebPush, "failed", 2)
	k.requireSent(channelWebPush, "sent", 4)
	k.passes(time.Hour)
	require.Empty(t, service.pushes())
}

func TestRetryAfterIsHonoured(t *testing.T) {
	service := servePushes(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	k := newKit(t, nil, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	k.subscribes(carol, service.subscribe("/2"))
	k.says(alice, bob, 10)
	k.passes(30 * time.Second)
	require.Len(t, service.pushes(), 1)
	k.passes(599 * time.Second)
	k.says(alice, carol, 11)
	k.passes(30 * time.Second)
	require.Empty(t, service.pushes(), "the service is left alone, also with what is for other browsers")
	k.requireSent(channelWebPush, "failed", 1)
	k.store.with(func() { require.Zero(t, k.store.rows["1003u:1001:1003"].Count) })
}

func TestSlowPushServiceStopsNoOther(t *testing.T) {
	release := make(chan struct{})
	slow, quick := servePushes(t, func(http.ResponseWriter, *http.Request) { <-release }), servePushes(t, nil)
	end := sync.OnceFunc(func() { close(release) })
	t.Cleanup(end) // before the server is closed
	k := newKit(t, nil, slow.server, quick.server)
	k.browsers.timeout = 15 * time.Second
	const many = 20
	k.tellers, k.browsers.room = make(chan struct{}, 8), 6
	one := slow.subscribe("/1")
	for i := range int64(many) {
		k.subscribes(2000+i, one)
		k.says(alice, 2000+i, 10)
	}
	k.clock = k.clock.Add(time.Second)
	k.subscribes(bob, quick.subscribe("/1"))
	k.says(alice, bob, 10)
	k.clock = k.clock.Add(30 * time.Second)
	for more := true; more; {
		var err error
		more, err = k.tellDue()
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(quick.pushes()) == 1 }, 10*time.Second, time.Millisecond, "sooner than the slow one may take")
	end()
	k.telling.Wait()
	k.passes(2 * heldPause)
	k.passes(2 * heldPause)
	k.passes(2 * heldPause)
	require.GreaterOrEqual(t, len(slow.pushes()), many, "those that it had no room for follow")
}

func TestSlowEndpointStopsNoBrowser(t *testing.T) {
	release := make(chan struct{})
	e, got := serveEndpoint(t, func(http.ResponseWriter, *http.Request) { <-release })
	e.Timeout = 15 * time.Second
	end := sync.OnceFunc(func() { close(release) })
	t.Cleanup(end)
	service := servePushes(t, nil)
	k := newKit(t, func(c *Config) { c.Endpoints = []webhook.Endpoint{e} }, service.server)
	one := service.subscribe("/1")
	const many = 20
	k.tellers, k.endpoints[0].line = make(chan struct{}, 8), make(line, 6)
	for i := range int64(many) {
		k.subscribes(2000+i, one)
		k.says(alice, 2000+i, 10)
	}
	k.clock = k.clock.Add(30 * time.Second)
	for more := true; more; {
		var err error
		more, err = k.tellDue()
		require.NoError(t, err)
	}
	pushed, busy := 0, 0
	require.Eventually(t, func() bool {
		pushed += len(service.pushes())
		busy = 0
		k.store.with(func() {
			for _, row := range k.store.rows {
				if strings.HasPrefix(row.Target, "browser") {
					busy++
				}
			}
		})
		return pushed+busy >= many-e.Parallel // nothing is settled of those that the endpoint has
	}, 10*time.Second, time.Millisecond, "sooner than the slow one may take")
	require.Positive(t, pushed)
	end()
	k.telling.Wait()
	require.NotEmpty(t, got())
}

// serveEndpoint starts an HTTP endpoint that checks signatures, notes bodies, and answers by the function.
func serveEndpoint(t *testing.T, answer http.HandlerFunc) (webhook.Endpoint, func() []webhookBody) {
	t.Helper()
	secret, err := signature.ParseKeys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	var mu sync.Mutex
	var got []webhookBody
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		b := webhookBody{ID: r.Header.Get(signature.HeaderID)}
		assert.NoError(t, json.Unmarshal(data, &b))
		assert.NotEmpty(t, r.Header.Get(signature.HeaderSignature))
		mu.Lock()
		got = append(got, b)
		mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	e := webhook.Endpoint{Name: "apns", URL: server.URL, Keys: secret, Timeout: 3 * time.Second, Parallel: 4, AllowPrivate: true}
	return e, func() []webhookBody {
		mu.Lock()
		defer mu.Unlock()
		all := got
		got = nil
		return all
	}
}

type webhookBody struct {
	ID        string
	Type      string
	Timestamp time.Time
	Data      payload
}

func TestEndpointGetsEveryNotificationAlsoOfUsersWithoutBrowser(t *testing.T) {
	var code atomic.Int64
	code.Store(http.StatusServiceUnavailable)
	e, got := serveEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) })
	k := newKit(t, func(c *Config) { c.Keys, c.Endpoints = Keys{}, []webhook.Endpoint{e} })
	k.says(alice, bob, 10)
	k.passes(30 * time.Second)
	first := got()
	code.Store(http.StatusOK)
	k.passes(30 * time.Second)
	again := got()
	require.Equal(t, first, again)
	require.Len(t, again, 1)
	require.Equal(t, "notification", again[0].Type)
	require.EqualValues(t, 1_700_000_000, again[0].Timestamp.Unix())
	require.Equal(t, payload{
		User: bob, Conversation: "u:1001:1002", Count: 1, MessageID: "m10", Seq: 10, From: alice, Timestamp: 1_700_000_000,
	}, again[0].Data)
	k.requireSent(channelWebhook, "failed", 1)
	k.requireSent(channelWebhook, "sent", 1)
	require.NoError(t, k.Handler().Ready())

	code.Store(http.StatusGone)
	k.says(alice, bob, 11)
	k.passes(30 * time.Second)
	require.ErrorContains(t, k.Handler().Ready(), "410 Gone")
	require.True(t, k.store.disabled["apns"])
}

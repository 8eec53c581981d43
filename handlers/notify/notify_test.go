package notify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers/webhook"
	"millrace/infra/signature"
)

func ecdsaKey(uncompressed []byte) (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestUserWhoIsAwayGetsOneNotificationForAllOfAWindow(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, nil, service.server)
	k.subscribes(bob, service.subscribe("/phone"), service.subscribe("/work"))
	k.says(alice, bob, 10)
	k.clock = k.clock.Add(10 * time.Second)
	k.says(alice, bob, 11)
	k.says(carol, bob, 12)
	k.passes(19 * time.Second)
	require.Empty(t, service.pushes())
	k.passes(time.Second)
	got := service.pushes()
	require.Len(t, got, 2)
	want := payload{
		Type: "message", Conversation: "u:1001:1002", Count: 2, MessageID: "m11", Seq: 11, From: alice, Timestamp: 1_700_000_010,
	}
	require.Equal(t, pushed{"/phone", got[0].topic, "3580", want}, got[0])
	require.Equal(t, pushed{"/work", got[0].topic, "3580", want}, got[1])
	require.Len(t, got[0].topic, 32)
	k.passes(10 * time.Second)
	require.Equal(t, "u:1002:1003", service.pushes()[0].payload.Conversation)
	k.passes(time.Hour)
	require.Empty(t, service.pushes())
	k.requireSent(channelWebPush, "sent", 4)
	k.says(alice, bob, 20)
	k.passes(30 * time.Second)
	require.Len(t, service.pushes(), 2)
}

func TestMessagesThatComeAgainAreToldOnce(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, nil, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	log := []events.Record{
		k.record(&events.Message{From: alice, To: bob, Conversation: "u:1001:1002"}, 10),
		k.record(&events.Message{From: alice, To: bob, Conversation: "u:1001:1002"}, 11),
	}
	k.handles(log...)
	k.handles(log...)
	k.passes(30 * time.Second)
	require.Equal(t, 2, service.pushes()[0].payload.Count)
	k.handles(log...)
	k.passes(30 * time.Second)
	require.Empty(t, service.pushes())

	k.clock = k.clock.Add(time.Hour)
	k.store.with(func() { clear(k.store.rows) })
	k.handles(log...)
	k.passes(30 * time.Second)
	require.Empty(t, service.pushes(), "they are too old by now, whatever the store knows")
	k.requireUntold(reasonOld, 2)
}

func TestWhoNeedNotBeToldIsNotTold(t *testing.T) {
	for reason, change := range map[string]func(*kit){
		reasonOnline:   func(k *kit) { k.store.seen[bob] = events.UserOnline },
		reasonRead:     func(k *kit) { k.store.read[bob] = 10 },
		reasonMuted:    func(k *kit) { k.store.mutedUntil[bob] = k.clock.Unix() + 31 },
		reasonHidden:   func(k *kit) { k.store.hidden[bob] = true },
		reasonLeft:     func(k *kit) { k.store.left[bob] = true },
		reasonRecalled: func(k *kit) { k.store.messages["m10"] = Message{Recalled: true} },
		reasonNoTarget: func(k *kit) { clear(k.store.browsers) },
		reasonOld:      func(k *kit) { k.clock = k.clock.Add(time.Hour) },
		reasonQuiet:    func(k *kit) { k.Quiet, _ = ParseQuiet("22:00-23:00Z") }, // the clock begins at 22:13:20
		"": func(k *kit) {
			k.store.seen[bob], k.store.read[bob], k.store.mutedUntil[bob] = events.UserOffline, 9, k.clock.Unix()+30
		},
	} {
		t.Run("because "+reason, func(t *testing.T) {
			service := servePushes(t, nil)
			k := newKit(t, nil, service.server)
			k.subscribes(bob, service.subscribe("/1"))
			k.store.members[7] = []int64{alice, bob}
			k.handles(k.record(&events.Message{From: alice, GroupID: 7, Conversation: "g:7"}, 10))
			k.store.with(func() { change(k) })
			k.passes(30 * time.Second)
			if reason == "" {
				require.Len(t, service.pushes(), 1)
				return
			}
			require.Empty(t, service.pushes())
			k.requireUntold(reason, 1)
			k.store.with(func() { require.Zero(t, k.store.rows["1002g:7"].Count, "nobody waits for it to change") })
		})
	}
}

func TestNobodyIsToldOfOwnMessages(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, nil, service.server)
	k.subscribes(alice, service.subscribe("/1"))
	k.says(alice, alice, 10)
	k.says(alice, bob, 11)
	k.store.members[7] = []int64{alice}
	k.handles(k.record(&events.Message{From: alice, GroupID: 7, Conversation: "g:7"}, 12))
	require.Equal(t, []events.Type{events.NewMessage}, k.Handler().Types, "nor of other events")
	require.Empty(t, k.store.rows, "without a browser there is nothing to count for Bob")
}

func TestOfALargeGroupOnlyThoseWhoAreMentionedAreTold(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, func(c *Config) { c.GroupLimit = 2 }, service.server)
	k.subscribes(bob, service.subscribe("/bob"))
	k.subscribes(carol, service.subscribe("/carol"))
	k.store.members[7] = []int64{alice, bob, carol}
	k.handles(k.record(&events.Message{From: alice, GroupID: 7, Conversation: "g:7", Mentions: []int64{carol, 9}}, 10))
	k.passes(30 * time.Second)
	got := service.pushes()
	require.Len(t, got, 1)
	require.Equal(t, "/carol", got[0].path)
	k.requireUntold(reasonLargeGroup, 1)
	k.store.members[7] = []int64{alice, bob}
	k.handles(k.record(&events.Message{From: alice, GroupID: 7, Conversation: "g:7"}, 11))
	k.passes(30 * time.Second)
	require.Equal(t, "/bob", service.pushes()[0].path)
}

func TestContentIsToldOnlyIfConfiguredAndAsItIsNow(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, func(c *Config) { c.Preview = true }, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	for content, want := range map[string]string{
		"edited": "edited", strings.Repeat("ä", 1000): strings.Repeat("ä", maxPreview/2) + "…", strings.Repeat("\x01", 1000): strings.Repeat("\x01", maxPreview) + "…",
	} {
		k.clock = k.clock.Add(time.Second)
		k.says(alice, bob, k.clock.Unix())
		k.store.with(func() {
			for id := range k.store.messages {
				k.store.messages[id] = Message{Content: content, Type: 2}
			}
		})
		k.passes(30 * time.Second)
		got := service.pushes()[0].payload
		require.Equal(t, want, got.Content)
		require.EqualValues(t, 2, got.MessageType)
	}
	k.says(alice, bob, k.clock.Unix())
	k.says(alice, bob, k.clock.Unix()+1)
	k.store.with(func() {
		for id := range k.store.messages {
			k.store.messages[id] = Message{Recalled: true}
		}
	})
	k.passes(30 * time.Second)
	got := service.pushes()[0].payload
	require.Empty(t, got.Content)
	require.Equal(t, 2, got.Count)
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

func TestRepeatEndsAfterManyAttemptsOrWhenTheUserComes(t *testing.T) {
	service := servePushes(t, status(http.StatusInternalServerError))
	k := newKit(t, func(c *Config) { c.MaxAge = 24 * time.Hour }, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	k.says(alice, bob, 10)
	for range 100 {
		// A gate that has seen failures opens by the real clock, which stands still here.
		k.browsers.services.Purge()
		k.passes(5 * time.Minute)
	}
	require.Len(t, service.pushes(), maxAttempts)
	k.requireSent(channelWebPush, "failed", maxAttempts-1)
	k.requireSent(channelWebPush, "abandoned", 1)

	k.browsers.services.Purge()
	k.says(alice, bob, 11)
	k.passes(30 * time.Second)
	require.Len(t, service.pushes(), 1)
	k.store.with(func() { k.store.seen[bob] = events.UserOnline })
	k.passes(time.Minute)
	require.Empty(t, service.pushes())
	k.requireUntold(reasonOnline, 1)
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

func TestWhatAProcessHasTakenIsToldByTheNext(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, nil, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	k.says(alice, bob, 10)
	taken, err := k.store.TakeNotifications(t.Context(), k.clock.Add(k.Window), k.clock.Add(k.Window+takenFor), 9)
	require.NoError(t, err)
	require.Len(t, taken, 1, "and the process dies")

	next := newKitOver(t, k.store, k.Config, service.server)
	next.passes(k.Window + takenFor - time.Second)
	require.Empty(t, service.pushes())
	next.passes(time.Second)
	require.Len(t, service.pushes(), 1)
	k.clock = next.clock
	k.tellInTime(&taken[0], events.Record{}, nil)
	require.Empty(t, service.pushes(), "whoever comes too late does nothing")
}

func TestWithoutTheStoreNothingIsLostAndNobodyIsBlamed(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, nil, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	r := k.record(&events.Message{From: alice, To: bob, Conversation: "u:1001:1002"}, 10)
	down := errors.New("down")
	k.store.with(func() { k.store.err = down })
	for _, err := range k.handleBatch(t.Context(), []events.Record{r, r}) {
		require.ErrorIs(t, err, down)
		require.False(t, events.IsPermanent(err))
	}
	k.clock = k.clock.Add(30 * time.Second)
	_, err := k.tellDue()
	require.ErrorIs(t, err, down)
	k.store.with(func() { k.store.err = nil })
	k.handles(r)
	k.passes(30 * time.Second)
	require.Len(t, service.pushes(), 1)
}

func TestPanicKeepsANotificationForTheNextTime(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, func(c *Config) {
		c.Contain = func(f func()) (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = fmt.Errorf("%v", v)
				}
			}()
			f()
			return nil
		}
	}, service.server)
	k.subscribes(bob, service.subscribe("/1"))
	k.says(alice, bob, 10)
	whole := k.browsers
	k.browsers = &browsers{} // which has no services
	k.passes(30 * time.Second)
	k.browsers = whole
	k.passes(takenFor)
	require.Len(t, service.pushes(), 1)
	require.Contains(t, k.logs.String(), "waits")
}

func TestStartedHandlerTellsByItself(t *testing.T) {
	service := servePushes(t, nil)
	k := newKit(t, func(c *Config) { c.Window = 0 }, service.server)
	k.now = time.Now
	k.clock = time.Now()
	k.subscribes(bob, service.subscribe("/1"))
	k.says(alice, bob, 10)
	k.Start(t.Context())
	require.Eventually(t, func() bool { return len(service.pushes()) == 1 }, 10*time.Second, 10*time.Millisecond)
	k.Stop()
}

func TestTryTellsEachOutcome(t *testing.T) {
	service := servePushes(t, nil)
	e, got := serveEndpoint(t, status(http.StatusTeapot))
	k := newKit(t, func(c *Config) { c.Endpoints = []webhook.Endpoint{e} }, service.server)
	k.subscribes(bob, service.subscribe("/secret-1"), Subscription{service.server.URL + "/secret-2", keys(t).Public, "AAAAAAAAAAAAAAAAAAAAAA"})
	tried, err := k.Try(t.Context(), bob)
	require.NoError(t, err)
	require.Len(t, tried, 3)
	require.NoError(t, tried[0].Err)
	require.ErrorIs(t, tried[1].Err, errGone)
	require.ErrorContains(t, tried[2].Err, "418")
	for _, one := range tried {
		require.NotContains(t, one.Target, "secret")
	}
	require.Equal(t, "test", service.pushes()[0].payload.Type)
	require.Equal(t, bob, got()[0].Data.User)
	k.store.with(func() { require.Len(t, k.store.browsers[bob], 1) })

	tried, err = newKitOver(t, k.store, Config{}).Try(t.Context(), bob)
	require.NoError(t, err)
	require.ErrorContains(t, tried[0].Err, "no key")
	tried, err = k.Try(t.Context(), carol)
	require.NoError(t, err)
	require.Len(t, tried, 1, "the endpoint alone")
}

func TestKeysOfAnyFormThatIsNotTheirsAreRefusedWithoutShowingThem(t *testing.T) {
	drawn, err := GenerateKeys()
	require.NoError(t, err)
	parsed, err := ParseKeys(drawn.Private)
	require.NoError(t, err)
	require.Equal(t, drawn, parsed)
	require.NotContains(t, slog.AnyValue(parsed).String(), drawn.Private)
	for _, bad := range []string{"", "AAAA", drawn.Public, privateKey + "=", privateKey[:40], strings.Repeat("_", 43), strings.Repeat("A", 43), "a key!"} {
		_, err := ParseKeys(bad)
		require.Error(t, err, bad)
		if bad != "" {
			require.NotContains(t, err.Error(), bad)
		}
	}
}

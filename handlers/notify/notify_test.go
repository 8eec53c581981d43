package notify

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers/webhook"
)

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
	require.Eventually(t, func() bool { return len(service.pushes()) == 1 }, 30*time.Second, 10*time.Millisecond)
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

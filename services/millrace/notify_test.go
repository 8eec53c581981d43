package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/handlertest"
	"millrace/handlers/notify"
	"millrace/infra/config"
	"millrace/infra/store"
	"millrace/infra/store/sqlite"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// notifyKey is the private key of the example in RFC 8291, section 5, and browserKeys are the browser's.
const notifyKey = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"

func browserKeys() client.PushKeys {
	return client.PushKeys{
		P256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", Auth: "BTBZMqHH6r4Tts7J_aSIgg",
	}
}

// notified is an endpoint that gets notifications. It takes each once, by its id, as receivers do.
type notified struct {
	*httptest.Server
	mu    sync.Mutex
	ids   map[string]bool
	taken []told
}

// told is what a notification says.
type told struct {
	User         int64  `json:"user"`
	Conversation string `json:"conversation"`
	Count        int    `json:"count"`
	Content      string `json:"content"`
}

func newNotified(t *testing.T) *notified {
	t.Helper()
	n := &notified{ids: map[string]bool{}}
	n.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		var body struct{ Data told }
		assert.NoError(t, json.Unmarshal(data, &body))
		n.mu.Lock()
		defer n.mu.Unlock()
		if id := r.Header.Get("webhook-id"); !n.ids[id] {
			n.ids[id] = true
			n.taken = append(n.taken, body.Data)
		}
	}))
	t.Cleanup(n.Close)
	return n
}

func (n *notified) all() []told {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.taken)
}

// file writes the configuration of the endpoint.
func (n *notified) file(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "notify.yaml")
	file := fmt.Sprintf("endpoints:\n- {name: apns, url: '%s', secrets: [%s], allow_private: true}\n", n.URL, webhookSecret)
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	return path
}

func TestEndToEndWhoIsAwayIsNotifiedOnceOfAllMessages(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	n := newNotified(t)
	worker := []string{
		"--data-dir=" + dir, "--kafka-brokers=" + strings.Join(d.brokers, ","), "--handlers=notify", "--notify-webhooks=" + n.file(t, dir),
		"--notify-window=1s", "--notify-content",
	}
	stop := startInside(t, config.Worker, fx.Options(), worker...)
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Online(t, proof.Bob)
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, storeFile))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	proof.Await(t, func() bool {
		seen, err := db.LastSeen(t.Context(), []int64{proof.Bob})
		require.NoError(t, err)
		return seen[proof.Bob].Type == events.UserOnline
	}, "the store knows that Bob is online")
	for _, text := range []string{"one", "two"} {
		a.Sends(t, client.ToUser(proof.Bob), text)
		a.Sends(t, client.ToUser(proof.Carol), text)
	}
	group, err := a.Group(t.Context(), client.GroupCreate{Name: "friends", Members: []int64{proof.Bob, proof.Carol}})
	require.NoError(t, err)
	a.Sends(t, client.ToGroup(group.GroupID), "three")
	proof.Await(t, func() bool { return len(n.all()) >= 2 }, "Carol is notified of both conversations")
	room := events.Group(group.GroupID)
	require.ElementsMatch(t, []told{
		{proof.Carol, "u:1001:1003", 2, "two"}, {proof.Carol, room, 1, "three"},
	}, n.all(), "and Bob, who is there, of none")

	// What is counted survives the worker. Its successor tells it.
	a.Sends(t, client.ToUser(proof.Carol), "four")
	stop()
	a.Sends(t, client.ToUser(proof.Carol), "five")
	stop = startInside(t, config.Worker, fx.Options(), worker...)
	defer func() { stop() }()
	counted := func() (messages int) {
		for _, one := range n.all()[2:] {
			require.Equal(t, "u:1001:1003", one.Conversation)
			messages += one.Count
		}
		return messages
	}
	proof.Await(t, func() bool { return counted() >= 2 }, "all are told")
	require.Equal(t, 2, counted())
	require.NoError(t, b.Close())
}

func TestEndToEndSubscriptionsAreTriedAndRefusalsTold(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	a := proof.Join(t, d.url(), proof.Alice, nil)
	n := newNotified(t)
	file, key := "--notify-webhooks="+n.file(t, dir), []string{"--vapid-key=" + notifyKey, "--vapid-subject=mailto:ops@example.com"}
	test := func(args ...string) (string, error) {
		return run(t, append([]string{"notify", "test", "--user=1001", "--data-dir=" + dir}, args...)...)
	}
	_, err := test(key...)
	require.EqualError(t, err, "user 1001 has subscribed with no browser, and there is no endpoint")
	out, err := test(file)
	require.NoError(t, err)
	require.Regexp(t, `^webhook notify-apns +[0-9.]+(m|µ)?s +sent\n$`, out)

	private := client.PushSubscribe{Endpoint: "https://127.0.0.1:1/capability", Keys: browserKeys()}
	require.NoError(t, a.Do(t.Context(), private))
	out, err = test(append(key, file)...)
	require.EqualError(t, err, "1 of 2 have not taken it")
	require.Contains(t, out, "not a public address")
	require.Contains(t, out, "at 127.0.0.1:1")
	require.NotContains(t, out, "capability")
	require.NoError(t, a.Do(t.Context(), client.PushUnsubscribe{Endpoint: private.Endpoint}))
	_, err = test(key...)
	require.ErrorContains(t, err, "no browser")

	err = a.Do(t.Context(), client.PushSubscribe{Endpoint: "http://push.example.com/1", Keys: browserKeys()})
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
	err = a.Do(t.Context(), client.PushUnsubscribe{Endpoint: strings.Repeat("x", 3000)})
	require.ErrorIs(t, err, &client.Error{Code: client.TooLarge})
}

func TestNotifyKeysAreAPairThatTheWorkerTakes(t *testing.T) {
	out, err := run(t, "notify", "keys")
	require.NoError(t, err)
	public, private, found := strings.Cut(strings.TrimPrefix(out, "public key  "), "\nMILLRACE_VAPID_KEY=")
	require.True(t, found, out)
	keys, err := notify.ParseKeys(strings.TrimSpace(private))
	require.NoError(t, err)
	require.Equal(t, public, keys.Public)
}

func TestWrongSettingsOfNotificationsAreToldWithoutKeys(t *testing.T) {
	h := newHooked(t)
	typed := "--notify-webhooks=" + hookedUp(t, t.TempDir(), map[string]*hooked{"crm": h})
	for want, args := range map[string][]string{
		"MILLRACE_VAPID_KEY (--vapid-key): set this or":    nil,
		"MILLRACE_VAPID_KEY (--vapid-key): is no private":  {"--vapid-key=c2VzYW1l", "--vapid-subject=mailto:a@b.example"},
		"MILLRACE_NOTIFY_QUIET (--notify-quiet): \"late\"": {typed, "--notify-quiet=late"},
		"crm: an endpoint of notifications gets all":       {typed},
		"no such file": {"--notify-webhooks=/nowhere/notify.yaml"},
	} {
		_, err := run(t, append([]string{"worker", "--kafka-brokers=127.0.0.1:1", "--handlers=notify"}, args...)...)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "c2VzYW1l")
		require.Equal(t, exitUsage, exitCode(err))
	}
	_, err := run(t, "notify", "test", "--vapid-key=c2VzYW1l")
	require.ErrorContains(t, err, "--user must be")
	require.ErrorContains(t, err, "MILLRACE_VAPID_SUBJECT")
	require.Equal(t, exitUsage, exitCode(err))
}

func openNotify(t *testing.T) handlertest.Subject {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), storeFile))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return notifyOver(t, db)
}

// notifyOver returns the handler, whose records are messages of one author to others, so that each is a notification of its own.
// They have no order among them, and these ascend.
func notifyOver(t *testing.T, db *sqlite.DB) handlertest.Subject {
	t.Helper()
	n := notify.New(notify.Config{Window: time.Hour, MaxAge: time.Hour, Endpoints: nil, Keys: notifyKeys(t)}, notifyStore{db}, nil, slog.New(slog.DiscardHandler))
	n.Start(t.Context())
	end := sync.OnceFunc(n.Stop)
	t.Cleanup(end)
	const apart = 1_000_000
	userOf := func(seq int64) int64 {
		user := seq * apart
		for events.Partition(events.Direct(handlertest.Sender, user), events.DefaultPartitions) != handlertest.Partition() {
			user++
		}
		return user
	}
	return handlertest.Subject{
		Handler: n.Handler(),
		Record: func(seq int64) events.Event {
			user := userOf(seq)
			require.NoError(t, db.SaveSubscription(t.Context(), user, store.Subscription{Endpoint: fmt.Sprint("https://push.example.com/", seq)}))
			m := &events.Message{
				ClientMsgID: fmt.Sprint(seq), Conversation: events.Direct(handlertest.Sender, user), From: handlertest.Sender, To: user,
				Content: "text", MessageType: 1, Timestamp: time.Now().Unix(),
			}
			m.MessageID = events.MessageID(m.From, m.Conversation, m.ClientMsgID)
			return events.Event{Type: events.NewMessage, EventID: m.MessageID, Message: m, Timestamp: m.Timestamp}
		},
		Done: func(t *testing.T) (done []int64) {
			later := time.Now().Add(2 * time.Hour)
			waiting, err := db.TakeNotifications(t.Context(), later, later, 1000)
			require.NoError(t, err)
			for _, one := range waiting {
				done = append(done, slices.Repeat([]int64{one.User / apart}, one.Count)...)
			}
			slices.Sort(done)
			return done
		},
		TakeOver: func(t *testing.T) handlertest.Subject {
			end()
			return notifyOver(t, db)
		},
	}
}

func notifyKeys(t *testing.T) notify.Keys {
	t.Helper()
	keys, err := notify.ParseKeys(notifyKey)
	require.NoError(t, err)
	return keys
}

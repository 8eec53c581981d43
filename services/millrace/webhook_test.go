package main

import (
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

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/handlertest"
	"millrace/handlers/webhook"
	"millrace/infra/config"
	"millrace/infra/signature"
	"millrace/infra/store/sqlite"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// hooked is an endpoint of the webhook handler. It takes each event once, by its id, as receivers do.
type hooked struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex
	status func(content string) int
	ids    map[string]bool
	taken  []hookEvent // in the order of arrival
	asked  int
}

type hookEvent struct {
	Type     string `json:"type"`
	Pos      string `json:"pos"`
	Replayed bool   `json:"replayed"`
	Data     struct {
		Message *events.Message `json:"message"`
	} `json:"data"`
}

func newHooked(t *testing.T) *hooked {
	t.Helper()
	h := &hooked{t: t, ids: map[string]bool{}, status: func(string) int { return http.StatusOK }}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hooked) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	data, err := io.ReadAll(q.Body)
	assert.NoError(h.t, err)
	var event hookEvent
	assert.NoError(h.t, json.Unmarshal(data, &event))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	content := ""
	if event.Data.Message != nil {
		content = event.Data.Message.Content
	}
	if code := h.status(content); code != http.StatusOK {
		w.WriteHeader(code)
		return
	}
	if id := q.Header.Get("webhook-id"); !h.ids[id] {
		h.ids[id] = true
		h.taken = append(h.taken, event)
	}
}

// answers makes the endpoint answer by the content of messages.
func (h *hooked) answers(status func(content string) int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

func (h *hooked) events() []hookEvent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.taken)
}

func (h *hooked) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// contents waits until the endpoint has taken n messages.
func (h *hooked) contents(t *testing.T, n int) (all []string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(h.events()) >= n }, proof.Patience, 10*time.Millisecond)
	for _, e := range h.events() {
		all = append(all, e.Data.Message.Content)
	}
	return all
}

// hookedUp writes the configuration of endpoints by their names.
func hookedUp(t *testing.T, dir string, endpoints map[string]*hooked) (path string) {
	t.Helper()
	file := "endpoints:\n"
	for name, h := range endpoints {
		file += fmt.Sprintf("- {name: %s, url: '%s', secrets: [%s], types: [new_message], timeout: 1s, allow_private: true}\n", name, h.URL, webhookSecret)
	}
	path = filepath.Join(dir, "webhooks.yaml")
	require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
	return path
}

func TestEndToEndWebhooksGetEventsIndependentlyOfEachOther(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	good, dead, picky := newHooked(t), newHooked(t), newHooked(t)
	dead.answers(func(string) int { return http.StatusGone })
	picky.answers(func(content string) int {
		return map[bool]int{true: http.StatusUnprocessableEntity, false: http.StatusOK}[content == "two"]
	})
	path := hookedUp(t, dir, map[string]*hooked{"good": good, "dead": dead, "picky": picky})
	worker := []string{"--data-dir=" + dir, "--kafka-brokers=" + strings.Join(d.brokers, ","), "--handlers=webhook", "--webhooks=" + path}
	stop := startInside(t, config.Worker, fx.Options(), worker...)
	a := proof.Join(t, d.url(), proof.Alice, nil)
	for _, text := range []string{"one", "two", "three"} {
		a.Sends(t, client.ToUser(proof.Bob), text)
	}
	require.Equal(t, []string{"one", "two", "three"}, good.contents(t, 3))

	// What an endpoint does not take is in its poison queue, and others go on.
	require.Equal(t, []string{"one", "three"}, picky.contents(t, 2))
	var poisoned []listed
	require.Eventually(t, func() bool {
		poisoned = listPoison(t, d.brokers)
		return len(poisoned) == 1
	}, proof.Patience, 10*time.Millisecond)
	require.Equal(t, "webhook-picky", poisoned[0].Handler)
	require.Equal(t, "the endpoint has answered 422 Unprocessable Entity", poisoned[0].Reason)
	picky.answers(func(string) int { return http.StatusOK })
	_, err := run(t, "poison", "replay", "--all", worker[1])
	require.NoError(t, err)
	require.Equal(t, []string{"one", "three", "two"}, picky.contents(t, 3))
	require.True(t, picky.events()[2].Replayed)

	// Who has answered 410 Gone gets nothing, also after a restart, until it is enabled.
	list := func() string {
		out, err := run(t, "webhook", "list", "--webhooks="+path, "--data-dir="+dir)
		require.NoError(t, err)
		return out
	}
	require.Regexp(t, `dead +disabled +conversation +\[new_message\]`, list())
	require.Regexp(t, `good +enabled`, list())
	stop()
	asked := dead.requests()
	stop = startInside(t, config.Worker, fx.Options(), worker...)
	defer func() { stop() }()
	a.Sends(t, client.ToUser(proof.Bob), "four")
	require.Equal(t, "four", good.contents(t, 4)[3])
	require.Equal(t, asked, dead.requests())
	dead.answers(func(string) int { return http.StatusOK })
	_, err = run(t, "webhook", "enable", "dead", "--data-dir="+dir)
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two", "three", "four"}, dead.contents(t, 4))
	_, err = run(t, "webhook", "enable", "dead", "--data-dir="+dir)
	require.EqualError(t, err, "dead is not disabled")
	require.Len(t, good.events(), 4)
}

func TestWebhookTestPrintsWhatTheEndpointAnswers(t *testing.T) {
	h := newHooked(t)
	path := hookedUp(t, t.TempDir(), map[string]*hooked{"crm": h})
	out, err := run(t, "webhook", "test", "--name=crm", "--webhooks="+path)
	require.NoError(t, err)
	require.Regexp(t, `^200 OK in [0-9.]+(m|µ)?s\n$`, out)
	require.Equal(t, "ping", h.events()[0].Type)

	h.answers(func(string) int { return http.StatusForbidden })
	out, err = run(t, "webhook", "test", "--url="+h.URL, "--secret="+webhookSecret, "--allow-private")
	require.EqualError(t, err, "the endpoint does not take it")
	require.Contains(t, out, "403 Forbidden")
	_, err = run(t, "webhook", "test", "--url="+h.URL, "--secret="+webhookSecret)
	require.ErrorContains(t, err, "not a public address")

	for want, args := range map[string][]string{
		"want either --name":            nil,
		"want either --name of":         {"--name=crm", "--url=" + h.URL},
		`has no endpoint "bi"`:          {"--name=bi", "--webhooks=" + path},
		"must name the file":            {"--name=crm"},
		"no such file":                  {"--name=crm", "--webhooks=" + path + "x"},
		"a secret of 3 bytes: want 24 ": {"--url=" + h.URL, "--secret=whsec_AAAA"},
	} {
		_, err = run(t, append([]string{"webhook", "test"}, args...)...)
		require.ErrorContains(t, err, want)
		require.Equal(t, exitUsage, exitCode(err))
	}
	_, err = run(t, "webhook", "list", "--webhooks="+path, "--data-dir="+t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist, "no store is made by looking for it")
}

func TestWebhookHandlerWithoutItsFileDoesNotStart(t *testing.T) {
	_, err := run(t, "worker", "--kafka-brokers=127.0.0.1:1", "--handlers=webhook")
	require.ErrorContains(t, err, "MILLRACE_WEBHOOKS")
	path := filepath.Join(t.TempDir(), "webhooks.yaml")
	require.NoError(t, os.WriteFile(path, []byte("endpoints:\n- name: crm\n"), 0o600))
	_, err = run(t, "worker", "--kafka-brokers=127.0.0.1:1", "--handlers=webhook", "--webhooks="+path)
	require.ErrorContains(t, err, "line 2: url: want")
	require.Equal(t, exitUsage, exitCode(err))
}

func openWebhook(t *testing.T) handlertest.Subject {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), storeFile))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return newHooked(t).over(t, db)
}

// over returns the handler of the endpoint.
func (h *hooked) over(t *testing.T, db *sqlite.DB) handlertest.Subject {
	t.Helper()
	keys, err := signature.ParseKeys(webhookSecret)
	require.NoError(t, err)
	w := webhook.New([]webhook.Endpoint{{
		Name: "contract", URL: h.URL, Keys: keys, InOrder: true, Timeout: proof.Patience, Parallel: 4, AllowPrivate: true,
	}}, db, slog.New(slog.DiscardHandler))
	w.Start(t.Context())
	end := sync.OnceFunc(w.Stop)
	t.Cleanup(end)
	return handlertest.Subject{
		Handler: w.Handlers()[0],
		Done: func(t *testing.T) (done []int64) {
			for _, e := range h.events() {
				pos, err := events.ParsePosition(e.Pos)
				require.NoError(t, err)
				done = append(done, pos.Seq)
			}
			return done
		},
		TakeOver: func(t *testing.T) handlertest.Subject {
			end()
			return h.over(t, db)
		},
	}
}

package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/services/client"
	"millrace/services/millrace/proof"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver is an HTTP hook that rejects what contains "spam" and masks "rude", unless it is told to do otherwise.
type receiver struct {
	*httptest.Server
	instead atomic.Pointer[http.HandlerFunc]
	asked   atomic.Int64 // how many requests have come
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.asked.Add(1)
	if instead := r.instead.Load(); instead != nil {
		(*instead)(w, request)
		return
	}
	var asked struct {
		Data struct {
			Messages []struct {
				Content string `json:"content"`
			} `json:"messages"`
		} `json:"data"`
	}
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	verdicts := []map[string]string{}
	for _, m := range asked.Data.Messages {
		switch {
		case strings.Contains(m.Content, "spam"):
			verdicts = append(verdicts, map[string]string{"reject": "no spam here"})
		case strings.Contains(m.Content, "rude"):
			verdicts = append(verdicts, map[string]string{"content": strings.ReplaceAll(m.Content, "rude", "****")})
		default:
			verdicts = append(verdicts, map[string]string{})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"verdicts": verdicts})
}

func TestEndToEndHookRefusesAndReplacesSendsAndEdits(t *testing.T) {
	besideOthers(t)
	r := newReceiver(t)
	d := startDevAs(t, t.TempDir(), []string{"--hook-url=" + r.URL, "--hook-secret=" + hookSecret, "--hook-fail=closed"})
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	to := client.ToUser(proof.Bob)

	_, err := a.Send(t.Context(), client.Send{Target: to, Content: "buy spam"})
	require.ErrorIs(t, err, &client.Error{Code: client.Rejected})
	require.ErrorContains(t, err, "no spam here")
	sent, err := a.Send(t.Context(), client.Send{Target: to, Content: "how rude", ClientMsgID: "c1"})
	require.NoError(t, err)
	require.True(t, sent.Replaced)
	again, err := a.Send(t.Context(), client.Send{Target: to, Content: "how rude", ClientMsgID: "c1"})
	require.NoError(t, err)
	require.Equal(t, sent, again)
	require.False(t, a.Sends(t, to, "fine").Replaced)
	for _, u := range []*proof.User{a, b} {
		require.Equal(t, "how ****", u.Sees(t, "new_message").Message.Content)
		require.Equal(t, "fine", u.Sees(t, "new_message").Message.Content)
	}

	edit := client.Edit{Conversation: sent.Conversation, MessageID: sent.MessageID, Content: "spam"}
	_, err = a.Call(t.Context(), edit)
	require.ErrorIs(t, err, &client.Error{Code: client.Rejected})
	require.ErrorContains(t, err, "no spam here")
	edit.Content = "rude again"
	_, err = a.Call(t.Context(), edit)
	require.NoError(t, err)
	require.Equal(t, "**** again", b.Sees(t, "message_edited").Content)
	require.Equal(t, []string{"**** again", "fine"}, contents(eventually(t, b, sent.Conversation, 2)))
}

// connects returns a connection that repeats nothing by itself.
func connects(t *testing.T, url string) *client.Conn {
	t.Helper()
	conn, err := client.Open(t.Context(), url, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Leave()) })
	token, err := proof.Token(proof.Alice)(t.Context())
	require.NoError(t, err)
	_, err = conn.Connect(t.Context(), client.Connect{Token: token})
	require.NoError(t, err)
	return conn
}

// takesLong is a hook that takes 3 s, longer than anybody waits for it.
func takesLong(_ http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(3 * time.Second):
	case <-r.Context().Done():
	}
}

func TestHookThatHasFailedThreeTimesIsWaitedForByNobody(t *testing.T) {
	besideOthers(t)
	const failures, pause = 3, 5 * time.Second // of the breaker
	r := newReceiver(t)
	slow := http.HandlerFunc(takesLong)
	r.instead.Store(&slow)
	d := startDevAs(t, t.TempDir(), []string{"--hook-url=" + r.URL, "--hook-secret=" + hookSecret, "--hook-timeout=100ms"})
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	began := time.Now()
	for i := range 200 {
		a.Sends(t, client.ToUser(proof.Bob), strconv.Itoa(i))
	}
	tries := int64(time.Since(began) / pause) // after each pause one request finds out whether it still fails
	require.GreaterOrEqual(t, r.asked.Load(), int64(failures))
	require.LessOrEqual(t, r.asked.Load(), failures+tries)
	require.Equal(t, proof.Numbered(0, 200), b.Reads(t, 200))

	r.instead.Store(nil)
	require.Eventually(t, func() bool {
		sent, err := a.Send(t.Context(), client.Send{Target: client.ToUser(proof.Bob), Content: "rude"})
		return err == nil && sent.Replaced
	}, proof.Patience, 50*time.Millisecond, "it is asked again")
}

// While the hook fails messages pass or wait, as the rule says. Once it is back everything is there, once and in order.
func TestHarmHookThatFailsUnderLoadLosesDoublesAndDisordersNothing(t *testing.T) {
	proof.NeedsHarm(t)
	besideOthers(t)
	for _, rule := range []string{"open", "closed"} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			d := startDevAs(t, t.TempDir(), []string{"--hook-url=" + r.URL, "--hook-secret=" + hookSecret, "--hook-fail=" + rule})
			ctx, cancel := context.WithTimeout(t.Context(), 4*proof.Healing)
			defer cancel()
			crowd := proof.StartCrowd(ctx, t, []string{d.url(), d.url()})
			for name, harm := range map[string]http.HandlerFunc{
				"takes 3 s": takesLong, "garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
				"closes at once": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			} {
				isAsked := func(times int64) {
					before := r.asked.Load()
					require.Eventually(t, func() bool { return r.asked.Load() >= before+times }, proof.Patience, 10*time.Millisecond, name)
				}
				isAsked(20)
				r.instead.Store(&harm)
				isAsked(3)
				if rule == "open" {
					crowd.GoesOn("while the hook " + name)
				}
				r.instead.Store(nil)
			}
			crowd.GoesOn("after all")
			crowd.End(ctx)
		})
	}
}

func TestHarmSendsDoAsTheRuleSaysWhateverTheHookDoes(t *testing.T) {
	besideOthers(t)
	answers := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	harms := map[string]http.HandlerFunc{
		"takes 3 s":      takesLong,
		"garbage":        answers("<html>"),
		"too few":        answers(`{"verdicts":[]}`),
		"too many":       answers(`{"verdicts":[{},{}]}`),
		"no content":     answers(`{"verdicts":[{"content":"` + strings.Repeat("x", 40<<10) + `"}]}`),
		"huge":           answers(strings.Repeat(" ", 8<<20)),
		"error":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"closes at once": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"closes half way": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("{"))
		},
	}
	for _, rule := range []string{"open", "closed"} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			d := startDevAs(t, t.TempDir(), []string{"--hook-url=" + r.URL, "--hook-secret=" + hookSecret, "--hook-fail=" + rule})
			b := proof.Join(t, d.url(), proof.Bob, nil)
			a := connects(t, d.url())
			var accepted []string
			id := int64(1)
			send := func(content string) error {
				id++
				began := time.Now()
				require.NoError(t, a.Write(id, client.Send{Target: client.ToUser(proof.Bob), Content: content, ClientMsgID: content}))
				for {
					frame, err := a.Read(t.Context())
					require.NoError(t, err)
					switch {
					case frame.ID != id:
					case frame.Error != nil:
						require.Less(t, time.Since(began), 5*time.Second)
						return frame.Error
					default:
						require.Less(t, time.Since(began), 5*time.Second)
						accepted = append(accepted, content)
						return nil
					}
				}
			}
			for name, harm := range harms {
				r.instead.Store(&harm)
				err := send(name)
				r.instead.Store(nil)
				if rule == "open" {
					require.NoError(t, err, name)
				} else {
					require.ErrorIs(t, err, &client.Error{Code: client.Unavailable}, name)
					require.NoError(t, send(name), "the repeat")
				}
				require.NoError(t, send("after "+name))
			}

			r.Close() // and now it is away for good
			for _, content := range []string{"a", "b", "c", "d", "e"} {
				err := send(content)
				if rule == "closed" {
					require.ErrorIs(t, err, &client.Error{Code: client.Unavailable})
					break // the client has to repeat it before anything else
				}
				require.NoError(t, err)
			}
			require.Equal(t, accepted, b.Reads(t, len(accepted)))
			require.Equal(t, accepted, contents(eventually(t, b, "u:1001:1002", len(accepted))))
		})
	}
}

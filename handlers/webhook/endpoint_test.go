package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
)

func TestRequestIsAsStandardWebhooksSays(t *testing.T) {
	r := receive(t, status(http.StatusNoContent))
	e, _ := open(t, r.endpoint(), nil)
	h := e.handler()
	require.Equal(t, "webhook-crm", h.Name)
	require.Equal(t, "webhook-crm-consumer-group", h.Group)
	m := message(2, 11)
	require.NoError(t, h.Handle(t.Context(), m))
	replay := message(2, 5)
	replay.Replay = true
	require.NoError(t, h.Handle(t.Context(), replay))

	require.Len(t, r.got, 2)
	require.Equal(t, m.EventID, r.got[0].id)
	got := r.got[0].body
	data, err := events.Encode(&m.Event)
	require.NoError(t, err)
	require.JSONEq(t, string(data), string(got.Data))
	got.Data = nil
	require.Equal(t, body{Type: events.NewMessage, Timestamp: time.Unix(1642678800, 0).UTC(), Pos: "7:11"}, got)
	require.True(t, r.got[1].body.Replayed)
	require.Equal(t, "7:5", r.got[1].body.Pos)
}

func TestOnlyTheTypesThatTheEndpointWantsAreSent(t *testing.T) {
	r := receive(t, status(http.StatusOK))
	wanted := r.endpoint()
	wanted.Types = []events.Type{events.MessageRead}
	e, _ := open(t, wanted, nil)
	read := events.Record{
		Event:    events.Event{Type: events.MessageRead, EventID: "read", Conversation: "u:1:2", User: 1, MessageSeq: 3, Timestamp: 9},
		Position: events.Position{Partition: 7, Seq: 12},
	}
	require.Equal(t, make([]error, 3), e.handleBatch(t.Context(), []events.Record{message(2, 11), read, message(2, 13)}))
	require.NoError(t, e.handle(t.Context(), message(2, 14)))
	require.Equal(t, []string{"7:12"}, r.positions())
}

func TestEndpointThatNotifiesGetsWhatRulesNameItsPeopleFor(t *testing.T) {
	r := receive(t, status(http.StatusOK))
	wanted := r.endpoint()
	wanted.Notify = []string{"lawyers", "on-call"}
	e, _ := open(t, wanted, nil)
	named := func(seq int64, names string) events.Record {
		m := message(2, seq)
		m.Headers = events.HeaderMap{events.NotifyHeader: names}
		return m
	}
	batch := []events.Record{message(2, 11), named(12, "lawyers"), named(13, "moderators"), named(14, "moderators,on-call,lawyers")}
	require.Equal(t, make([]error, 4), e.handleBatch(t.Context(), batch))
	require.NoError(t, e.handle(t.Context(), message(2, 15)))
	require.Equal(t, []string{"7:12", "7:14"}, r.positions())
	require.Equal(t, []string{"lawyers"}, r.got[0].body.Notify)
	require.Equal(t, []string{"on-call", "lawyers"}, r.got[1].body.Notify)
}

func TestAnswerDecidesWhetherAnEventIsTriedAgain(t *testing.T) {
	for code, want := range map[int]string{
		200: "done", 201: "done", 204: "done",
		400: "permanent", 401: "permanent", 404: "permanent", 413: "permanent", 422: "permanent", 451: "permanent",
		301: "transient", 307: "transient", 408: "transient", 409: "transient", 425: "transient", 429: "transient",
		500: "transient", 502: "transient", 503: "transient", 504: "transient",
	} {
		r := receive(t, status(code))
		e, _ := open(t, r.endpoint(), nil)
		err := e.handle(t.Context(), message(2, 11))
		require.Equal(t, want == "done", err == nil, "%d: %v", code, err)
		require.Equal(t, want == "permanent", events.IsPermanent(err), "%d: %v", code, err)
		require.Equal(t, []string{"7:11"}, r.positions())
		if err != nil {
			require.NotErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, http.StatusText(code))
		}
	}
}

func TestEventWithAnIDThatNoHeaderCanHoldIsPoisoned(t *testing.T) {
	r := receive(t, status(http.StatusOK))
	e, _ := open(t, r.endpoint(), nil)
	for _, id := range []string{"two words", "two\nlines", "käse"} {
		m := message(2, 11)
		m.EventID = id
		err := e.handle(t.Context(), m)
		require.True(t, events.IsPermanent(err), "%v", err)
	}
	require.Empty(t, r.got)
}

func TestEventsOfAConversationNeverOvertakeEachOther(t *testing.T) {
	var failing atomic.Bool
	r := receive(t, func(w http.ResponseWriter, q *http.Request) {
		data, err := io.ReadAll(q.Body)
		assert.NoError(t, err)
		if failing.Load() && strings.Contains(string(data), `"7:12"`) {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	e, _ := open(t, r.endpoint(), nil)
	batch := []events.Record{message(2, 11), message(2, 12), message(3, 13), message(2, 14), message(3, 15)}
	sentTo := func(to string) (all []string) {
		for _, q := range r.got {
			if strings.Contains(string(q.body.Data), to) {
				all = append(all, q.body.Pos)
			}
		}
		return all
	}

	failing.Store(true)
	errs := e.handleBatch(t.Context(), batch)
	require.NoError(t, errs[0])
	require.Error(t, errs[1])
	require.ErrorIs(t, errs[3], context.Canceled, "what was not sent is not to blame")
	require.Equal(t, []error{nil, nil}, []error{errs[2], errs[4]}, "others go on")
	require.Equal(t, append([]string{"7:11"}, slices.Repeat([]string{"7:12"}, attempts)...), sentTo("u:1:2"))
	require.Equal(t, []string{"7:13", "7:15"}, sentTo("u:1:3"))

	failing.Store(false)
	r.got = nil
	require.Equal(t, make([]error, 5), e.handleBatch(t.Context(), batch))
	require.Equal(t, []string{"7:12", "7:14"}, sentTo("u:1:2"), "what was sent before is not sent again")
	require.Empty(t, sentTo("u:1:3"))

	for _, r := range batch {
		e.handler().Settled(r.Position)
	}
	require.Empty(t, e.sent.partitions[7])
	require.NoError(t, e.handle(t.Context(), batch[0]))
	require.Equal(t, "7:11", r.got[len(r.got)-1].body.Pos, "what comes again after it was settled is sent again")
}

func TestWhatAnotherProcessMayHaveSentIsSentAgain(t *testing.T) {
	r := receive(t, status(http.StatusOK))
	e, _ := open(t, r.endpoint(), nil)
	h := e.handler()
	for range 2 {
		require.NoError(t, h.Handle(t.Context(), message(2, 11)))
		h.Released(7)
		h.Assigned(events.Position{Partition: 7, Seq: 10})
	}
	require.Equal(t, []string{"7:11", "7:11"}, r.positions())
	require.Equal(t, r.got[0].id, r.got[1].id)
}

func TestRequestsRunSideBySideUpToTheBound(t *testing.T) {
	for name, test := range map[string]struct {
		inOrder bool
		to      func(seq int64) int64
	}{
		"no order":           {false, func(int64) int64 { return 2 }},
		"many conversations": {true, func(seq int64) int64 { return seq }},
	} {
		t.Run(name, func(t *testing.T) {
			var now, most atomic.Int64
			arrived := make(chan struct{}, 100)
			release := make(chan struct{})
			r := receive(t, func(http.ResponseWriter, *http.Request) {
				n := now.Add(1)
				for seen := most.Load(); seen < n && !most.CompareAndSwap(seen, n); seen = most.Load() {
					continue
				}
				arrived <- struct{}{}
				<-release
				now.Add(-1)
			})
			c := r.endpoint()
			c.InOrder = test.inOrder
			e, _ := open(t, c, nil)
			done := make(chan []error)
			for batch := range int64(2) { // of two partitions
				var records []events.Record
				for i := range int64(8) {
					m := message(test.to(10+i), 10+i)
					m.Partition = int32(batch)
					records = append(records, m)
				}
				go func() { done <- e.handleBatch(t.Context(), records) }()
			}
			for range c.Parallel {
				<-arrived
			}
			close(release)
			for range 2 {
				require.Equal(t, make([]error, 8), <-done)
			}
			require.EqualValues(t, c.Parallel, most.Load())
		})
	}
}

// What the endpoint does with the connection costs its own time only, and never more than the timeout.
func TestHarmfulEndpoint(t *testing.T) {
	hang := func(q *http.Request) { <-q.Context().Done() }
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		done   bool
	}{
		"hangs":    {func(_ http.ResponseWriter, q *http.Request) { hang(q) }, false},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
		"drips headers": {func(w http.ResponseWriter, q *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			assert.NoError(t, err)
			defer conn.Close()
			for _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nX: ")); err == nil; _, err = conn.Write([]byte("x")) {
				<-time.After(time.Millisecond)
			}
		}, false},
		"sends headers without end": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			assert.NoError(t, err)
			defer conn.Close()
			for _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nX: ")); err == nil; _, err = conn.Write(make([]byte, 4096)) {
				continue
			}
		}, false},
		"speaks no HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			assert.NoError(t, err)
			_, _ = conn.Write([]byte("220 mail.example.com ESMTP hunter2" + strings.Repeat("x", 1000) + "\r\n"))
			_ = conn.Close()
		}, false},
		"sends a body without end": {func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(make([]byte, 4096)); err == nil; _, err = w.Write(make([]byte, 4096)) {
				continue
			}
		}, true},
		"never ends its body": {func(w http.ResponseWriter, q *http.Request) {
			w.WriteHeader(http.StatusOK)
			assert.NoError(t, http.NewResponseController(w).Flush())
			hang(q)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := receive(t, test.answer)
			c := r.endpoint()
			c.Timeout = 2 * time.Second
			e, _ := open(t, c, nil)
			begin := time.Now()
			err := e.handle(t.Context(), message(2, 11))
			require.Less(t, time.Since(begin), 10*c.Timeout)
			require.Equal(t, test.done, err == nil, "%v", err)
			require.False(t, events.IsPermanent(err))
			require.NotErrorIs(t, err, context.Canceled)
			if err != nil {
				require.Less(t, len(err.Error()), 2*maxErrorBytes)
				require.NotContains(t, err.Error(), "token=")
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	inside := receive(t, status(http.StatusOK))
	r := receive(t, func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, inside.server.URL, http.StatusTemporaryRedirect)
	})
	e, _ := open(t, r.endpoint(), nil)
	require.ErrorContains(t, e.handle(t.Context(), message(2, 11)), "redirects are not followed")
	require.Empty(t, inside.got)
}

func TestGoneEndpointIsDisabledUntilAnOperatorEnablesIt(t *testing.T) {
	var gone atomic.Bool
	gone.Store(true)
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if gone.Load() {
			w.WriteHeader(http.StatusGone)
		}
	})
	c := r.endpoint()
	e, store := open(t, c, nil)
	require.ErrorIs(t, e.handle(t.Context(), message(2, 11)), context.Canceled, "the event waits")
	require.ErrorContains(t, e.handler().Ready(), "millrace webhook enable crm")
	require.Equal(t, c.URL, store.gone["crm"])

	again := newWebhooks([]Endpoint{c}, store, nil, e.remote.log)
	again.Start(t.Context())
	t.Cleanup(again.Stop)
	for _, e := range []*endpoint{e, again.endpoints[0]} {
		require.Error(t, e.handler().Ready())
		require.ErrorIs(t, e.handle(t.Context(), message(2, 11)), context.Canceled)
	}
	require.Len(t, r.positions(), 1, "nothing is sent any more, also after a restart")

	gone.Store(false)
	store.enable("crm")
	require.Eventually(t, func() bool { return e.handle(t.Context(), message(2, 11)) == nil }, 2*lookAgain, time.Millisecond)
	require.NoError(t, e.handler().Ready())
	require.Len(t, r.positions(), 2)
}

func TestFiguresTellWhatCameOfRequestsAndWhetherTheEndpointIsDisabled(t *testing.T) {
	var code atomic.Int64
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) })
	w := newWebhooks([]Endpoint{r.endpoint()}, &memory{gone: map[string]string{}}, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(w.Stop)
	for i, answer := range []int64{http.StatusOK, http.StatusOK, http.StatusBadRequest, http.StatusServiceUnavailable, http.StatusGone} {
		require.False(t, w.Figures()[0].Disabled)
		code.Store(answer)
		err := w.endpoints[0].handle(t.Context(), message(2, int64(i+1)))
		require.Equal(t, answer == http.StatusOK, err == nil)
	}
	require.Equal(t, []Figures{{Name: "crm", Taken: 2, Refused: 2, Failed: 1, Disabled: true}}, w.Figures())
}

func TestGoneThatCannotBeStoredIsTriedAgain(t *testing.T) {
	r := receive(t, status(http.StatusGone))
	e, store := open(t, r.endpoint(), nil)
	store.err = errors.New("the disk is full")
	err := e.handle(t.Context(), message(2, 11))
	require.ErrorIs(t, err, store.err)
	require.False(t, events.IsPermanent(err))
}

func TestDeadEndpointIsAskedLessAndLessAndThenGetsEverything(t *testing.T) {
	var dead atomic.Bool
	dead.Store(true)
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if dead.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	e, _ := open(t, r.endpoint(), nil)
	var records []events.Record
	for seq := range int64(50) {
		records = append(records, message(100+seq, 1+seq))
	}
	for _, err := range e.handleBatch(t.Context(), records) {
		require.Error(t, err)
	}
	require.Less(t, len(r.positions()), tolerance+2*e.Parallel)
	require.ErrorContains(t, e.handler().Ready(), "502 Bad Gateway")

	dead.Store(false)
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(e.handleBatch(t.Context(), records), func(err error) bool { return err != nil })
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, e.handler().Ready())
}

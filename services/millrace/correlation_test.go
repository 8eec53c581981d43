package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/telemetry"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// journal collects what a logger writes.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// logLine is the part of a log line that the test checks.
type logLine struct {
	Level, Msg, Verb, Result, Handler, Outcome string
	Correlation                                string `json:"correlation_id"`
}

func (j *journal) lines(t *testing.T) []logLine {
	t.Helper()
	var all []logLine
	for lines := json.NewDecoder(bytes.NewBufferString(j.String())); lines.More(); {
		var line logLine
		require.NoError(t, lines.Decode(&line))
		all = append(all, line)
	}
	return all
}

// answered waits for the gateway's log line about the last request of the verb, and returns the request's correlation id.
func (j *journal) answered(t *testing.T, verb string) (id string) {
	t.Helper()
	proof.Await(t, func() bool {
		for _, line := range j.lines(t) {
			if line.Msg == "request answered" && line.Verb == verb {
				require.Equal(t, "ok", line.Result)
				id = line.Correlation
			}
		}
		return id != ""
	}, "the gateway tells of the "+verb)
	return id
}

// followed waits until every handler has logged what it did with the record that the request caused.
func (j *journal) followed(t *testing.T, id string, want map[string]string) {
	t.Helper()
	proof.Await(t, func() bool {
		got := map[string]string{}
		for _, line := range j.lines(t) {
			if line.Handler != "" && line.Outcome != "" && line.Correlation == id {
				got[line.Handler] = line.Outcome
			}
		}
		return maps.Equal(want, got)
	}, "handlers tell of "+id)
}

func TestEndToEndOneIDLeadsFromTheSocketThroughEveryHandler(t *testing.T) {
	besideOthers(t)
	var set atomic.Bool
	set.Store(true)
	var log journal
	d := startDevWith(t, t.TempDir(), trapped(&set), fx.Decorate(func(*slog.Logger) *slog.Logger {
		return telemetry.NewLogger(&log, slog.LevelDebug, "json")
	}))
	a := proof.Join(t, d.url(), proof.Alice, nil)

	a.Sends(t, client.ToUser(proof.Bob), "private words")
	a.Sends(t, client.ToUser(proof.Bob), trap)
	send := log.answered(t, "send")
	log.followed(t, send, map[string]string{"storage": "poisoned", "push": "handled", "groups": "skipped", "audit": "handled"})
	require.True(t, slices.Contains(log.lines(t), logLine{
		Level: "ERROR", Msg: "record poisoned", Handler: "storage", Correlation: send,
	}), "also where nobody debugs")

	_, err := a.Group(t.Context(), client.GroupCreate{Name: "a name", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	create := log.answered(t, "group_create")
	log.followed(t, create, map[string]string{"storage": "handled", "push": "handled", "groups": "handled", "audit": "handled"})

	require.NotEqual(t, send, create)
	var ids []string
	for _, r := range consume(t, d.brokers, events.TopicMessages, 3) {
		ids = append(ids, headerOf(r, events.CorrelationHeader))
	}
	require.Subset(t, ids, []string{send, create})
	require.Equal(t, create, headerOf(consume(t, d.brokers, events.TopicGroups, 1)[0], events.CorrelationHeader))
	require.Equal(t, send, headerOf(consume(t, d.brokers, events.PoisonTopic(events.TopicMessages), 1)[0], events.CorrelationHeader))

	require.NoError(t, a.Close())
	d.stop()
	signed, err := proof.Token(proof.Alice)(t.Context())
	require.NoError(t, err)
	require.Contains(t, log.String(), `"user":1001`)
	for _, private := range []string{"private words", proof.Secret, signed, "a name"} {
		require.NotContains(t, log.String(), private)
	}
}

func headerOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

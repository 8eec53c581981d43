package rules

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
)

const floodRules = `
floods:
  - {name: many, more_than: 3, within: 10s, recall: too many}
  - {name: same, per: content, when: user_type != "vip", more_than: 1, within: 1h, recall: said before}
`

// messages is a log of one partition, and the floods over it.
type messages struct {
	bus    *memory.Bus
	file   *File
	path   string
	floods *Floods
	all    []events.Record
}

func newMessages(t *testing.T) *messages {
	t.Helper()
	m := &messages{bus: memory.NewBus(memory.Config{Partitions: 1}), path: filepath.Join(t.TempDir(), "rules.yaml")}
	t.Cleanup(func() { require.NoError(t, m.bus.Close()) })
	write(t, m.path, floodRules)
	m.file, _ = open(t, m.path)
	m.floods = m.again()
	return m
}

// again returns the floods of a process that has seen nothing yet.
func (m *messages) again() *Floods { return NewFloods(m.file, m.bus.Log(events.TopicMessages)) }

// send publishes a message of the user at the second.
func (m *messages) send(t *testing.T, from, second int64, content, clientMsgID string, headers ...string) *events.Record {
	t.Helper()
	e := events.Event{Type: events.NewMessage, Timestamp: second, Message: &events.Message{
		From: from, To: 1000, Conversation: events.Direct(from, 1000), ClientMsgID: clientMsgID, Content: content, MessageType: 1, Timestamp: second,
	}}
	e.Message.MessageID = events.MessageID(from, e.Message.Conversation, clientMsgID)
	msg, err := pubsub.NewRecord(&e)
	require.NoError(t, err)
	for _, userType := range headers {
		msg.Metadata.Set(events.UserTypeHeader, userType)
	}
	return m.publish(t, &e, msg)
}

func (m *messages) publish(t *testing.T, e *events.Event, msg *message.Message) *events.Record {
	t.Helper()
	require.NoError(t, m.bus.Publisher().Publish(events.TopicMessages, msg))
	pos, err := m.bus.Position(msg)
	require.NoError(t, err)
	m.all = append(m.all, events.Record{Event: *e, Position: pos, Headers: events.HeaderMap(msg.Metadata)})
	return &m.all[len(m.all)-1]
}

func judge(t *testing.T, f *Floods, r *events.Record) string {
	t.Helper()
	reason, err := f.Judge(t.Context(), r)
	require.NoError(t, err)
	return reason
}

func TestFloodIsWhatComesTooSoonAfterTooMany(t *testing.T) {
	m := newMessages(t)
	n := 0
	said := func(from, second int64, content string, headers ...string) string {
		n++
		return judge(t, m.floods, m.send(t, from, second, content, fmt.Sprint(n), headers...))
	}
	for i := range int64(3) {
		require.Empty(t, said(1, 100+i, fmt.Sprint("text ", i)))
	}
	require.Equal(t, "too many", said(1, 103, "text 3"))
	require.Empty(t, said(2, 103, "text 3"), "another user has a count of its own")
	require.Equal(t, "too many", said(1, 109, "text 4"), "what is recalled counts too")
	require.Empty(t, said(1, 120, "text 5"))
	require.Equal(t, "said before", said(1, 300, "text 0"))
	require.Empty(t, said(1, 9000, "text 0"))
	require.Empty(t, said(3, 9000, "hello", "vip"))
	require.Empty(t, said(3, 9001, "hello", "vip"), "the condition does not hold")
	require.Equal(t, map[string]float64{"many": 2, "same": 1}, m.matches())
}

// matches returns how often each rule has matched, as the metrics say.
func (m *messages) matches() map[string]float64 {
	matches := make(map[string]float64)
	for _, name := range m.file.current.Load().Names() {
		matches[name] = testutil.ToFloat64(m.file.matched.WithLabelValues(name))
	}
	return matches
}

func TestRepeatOfAMessageIsNoFlood(t *testing.T) {
	m := newMessages(t)
	require.Empty(t, judge(t, m.floods, m.send(t, 1, 100, "hello", "a")))
	repeat := m.send(t, 1, 101, "hello", "a")
	require.Empty(t, judge(t, m.floods, repeat))
	require.Empty(t, judge(t, m.again(), repeat))
	require.Equal(t, "said before", judge(t, m.again(), m.send(t, 1, 101, "hello", "b")))
}

// A process that begins anywhere, is asked again or gets a replay decides as the one that has seen everything.
func TestFloodDoesNotDependOnWhoIsAskedWhen(t *testing.T) {
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 0))
		m := newMessages(t)
		var want []string
		second, found := int64(1000), 0
		for i := range 150 {
			second += random.Int64N(5)
			switch random.IntN(10) {
			case 0: // nobody's message
				msg := message.NewMessage("", []byte("garbage"))
				msg.Metadata.Set(pubsub.KeyHeader, "u:1:1000")
				require.NoError(t, m.bus.Publisher().Publish(events.TopicMessages, msg))
				continue
			case 1: // a replay for some other handler
				e := m.all0()
				msg, err := pubsub.NewRecord(&e)
				require.NoError(t, err)
				msg.Metadata.Set(pubsub.ReplayHandlerHeader, "storage")
				require.NoError(t, m.bus.Publisher().Publish(events.TopicMessages, msg))
				continue
			}
			id := fmt.Sprint(i)
			if random.IntN(8) == 0 {
				id = fmt.Sprint(random.IntN(i + 1)) // perhaps a repeat
			}
			r := m.send(t, 1+random.Int64N(2), second, fmt.Sprint(random.IntN(8)), id)
			reason := judge(t, m.floods, r)
			want = append(want, reason)
			if reason != "" {
				found++
			}
		}
		require.Positive(t, found)
		before := m.matches()
		for i := range m.all {
			require.Equal(t, want[i], judge(t, m.floods, &m.all[i]), "asked again")
		}
		require.Equal(t, before, m.matches(), "what is asked again is not counted again")
		begin := random.IntN(len(m.all))
		later := m.again()
		for i := begin; i < len(m.all); i++ {
			require.Equal(t, want[i], judge(t, later, &m.all[i]), "from %d on", begin)
		}
		replay := m.all[begin]
		replay.Replay = true
		require.Equal(t, want[begin], judge(t, later, &replay), "replayed")
		later.Forget(0)
		require.Equal(t, want[begin], judge(t, later, &m.all[begin]), "after the partition was away")
	}
}

// all0 returns an event for which there is a message in the log.
func (m *messages) all0() events.Event {
	if len(m.all) == 0 {
		return events.Event{Type: events.UserOnline, User: 1, Timestamp: 1}
	}
	return m.all[0].Event
}

func TestFloodsGoByTheRulesOfAChangedFile(t *testing.T) {
	m := newMessages(t)
	require.Empty(t, judge(t, m.floods, m.send(t, 1, 100, "a", "a")))
	require.Empty(t, judge(t, m.floods, m.send(t, 1, 100, "b", "b")))
	write(t, m.path, `floods: [{name: fewer, more_than: 2, within: 10s, recall: two are enough}]`)
	m.file.look()
	require.Equal(t, "two are enough", judge(t, m.floods, m.send(t, 1, 101, "c", "c")), "what came before counts")
	write(t, m.path, `rules: []`)
	m.file.look()
	require.Empty(t, judge(t, m.floods, m.send(t, 1, 101, "d", "d")))
	require.Empty(t, judge(t, NewFloods(nil, nil), m.send(t, 1, 101, "e", "e")), "there is no file")
}

// In a partition of many messages a track forgets those that lie too far back, and decides as one that has not seen them.
func TestFloodComparesWithSoManyRecordsAndForgetsTheRest(t *testing.T) {
	set := parse(t, `floods: [{name: same, per: content, more_than: 1, within: 24h, recall: again}]`)
	live := newTrack(set)
	m := &events.Message{From: 1, To: 1000, Conversation: "u:1:1000", Timestamp: 100}
	at := func(t *track, seq int64, content string) string {
		m.Content, m.MessageID = content, fmt.Sprint(seq)
		result := t.observe(&events.Record{Event: events.Event{Message: m}, Position: events.Position{Seq: seq}})
		return result.Recall
	}
	const last = 3 * FloodRecords
	for seq := int64(1); seq <= last; seq++ {
		require.Empty(t, at(live, seq, fmt.Sprint("text ", seq)))
	}
	require.LessOrEqual(t, len(live.first), 2*FloodRecords+1)
	require.LessOrEqual(t, len(live.latest[0]), 2*FloodRecords+1)
	require.Equal(t, "again", at(live, last+1, fmt.Sprint("text ", last+1-FloodRecords)))
	require.Empty(t, at(live, last+2, fmt.Sprint("text ", last+1-FloodRecords-5)))
}

func TestTopicMadeAnewHasNoFloodFromBefore(t *testing.T) {
	m := newMessages(t)
	require.Empty(t, judge(t, m.floods, m.send(t, 1, 100, "hello", "a")))
	anew := *m.send(t, 1, 100, "hello", "b")
	anew.Seq = events.Seq(1, 0)
	require.Empty(t, judge(t, m.floods, &anew))
}

// away is a log that cannot be read.
type away struct{}

func (away) Read(context.Context, []events.Range, func(pubsub.RawRecord) error) error {
	return context.DeadlineExceeded
}

func TestWithoutTheLogAFloodIsNotKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, floodRules)
	file, err := Open(path, prepared, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	r := events.Record{Event: events.Event{Type: events.NewMessage, Message: &events.Message{}}, Position: events.Position{Seq: 7}}
	_, err = NewFloods(file, away{}).Judge(t.Context(), &r)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, events.IsPermanent(err))
}

func TestFloodsAreTriedOnMessagesSentAtOnce(t *testing.T) {
	set := parse(t, floodRules)
	require.Empty(t, set.EvaluateFloods(subject(), 1).Recall)
	result := set.EvaluateFloods(subject(), 4)
	require.Equal(t, []string{"many", "same"}, result.Matched)
	require.Equal(t, "too many", result.Recall)
}

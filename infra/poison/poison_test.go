package poison_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/events"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// worker is a handler that notes at which positions it handled which contents.
type worker struct {
	events.Handler
	broken atomic.Bool

	mu      sync.Mutex
	handled map[string][]events.Position
}

// newWorker returns a worker that panics at the content "trap" while it is broken.
func newWorker(name string) *worker {
	w := &worker{handled: make(map[string][]events.Position)}
	w.Handler = events.Handler{
		Name: name, Topic: events.TopicMessages, Group: name + "-group",
		Handle: func(_ context.Context, r events.Record) error {
			if w.broken.Load() && strings.Contains(r.Message.Content, "trap") {
				panic("trapped")
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.handled[r.Message.Content] = append(w.handled[r.Message.Content], r.Position)
			return nil
		},
	}
	return w
}

func (w *worker) all() map[string][]events.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.handled)
}

// run runs the workers until the end of the test. The function returned waits until they have handled all there is.
func run(t *testing.T, bus pubsub.Bus, workers ...*worker) (settle func()) {
	t.Helper()
	handlers := make([]events.Handler, len(workers))
	for i, w := range workers {
		handlers[i] = w.Handler
	}
	runHandlers(t, bus, handlers, router.Options{RetryPause: time.Millisecond})
	return func() {
		t.Helper()
		log := bus.Log(events.TopicMessages)
		end, err := log.End(t.Context())
		require.NoError(t, err)
		for _, h := range handlers {
			require.Eventually(t, func() bool {
				committed, err := log.Committed(t.Context(), h.Group)
				for partition, seq := range end { // which is lower if the log was trimmed
					if committed[partition] < seq {
						return false
					}
				}
				return err == nil
			}, patience, time.Millisecond)
		}
	}
}

// runHandlers runs them until the end of the test.
func runHandlers(t *testing.T, bus pubsub.Bus, handlers []events.Handler, opts router.Options) {
	t.Helper()
	r, err := router.New(bus, handlers, opts, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	<-r.Running()
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		require.NoError(t, <-ended)
	})
}

func publish(t *testing.T, bus pubsub.Bus, key, value string) events.Position {
	t.Helper()
	msg := message.NewMessage("", []byte(value))
	msg.Metadata.Set(pubsub.KeyHeader, key)
	require.NoError(t, bus.Publisher().Publish(events.TopicMessages, msg))
	pos, err := bus.Position(msg)
	require.NoError(t, err)
	return pos
}

// value is a message as a producer without ids of its own writes it.
func value(to int, content string) string {
	return fmt.Sprintf(`{"type":"new_message","message":{"from":1,"to":%d,"content":%q,"message_type":1},"timestamp":1}`, to, content)
}

func entries(t *testing.T, q *poison.Queue) []*poison.Entry {
	t.Helper()
	all, err := q.Entries(t.Context())
	require.NoError(t, err)
	return all
}

func replay(t *testing.T, q *poison.Queue, f poison.Filter) poison.Replayed {
	t.Helper()
	done, err := q.Replay(t.Context(), entries(t, q), f, 0)
	require.NoError(t, err)
	return done
}

// away returns a key whose partition is not the conversation's.
func away(conversation string) string {
	key := "away"
	for events.Partition(key, 4) == events.Partition(conversation, 4) {
		key += "!"
	}
	return key
}

func TestOneInAThousandIsPoisonedAndAfterTheFixHandledOnce(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	broken, sound := newWorker("broken"), newWorker("sound")
	broken.broken.Store(true)
	const total = 4000
	want := make(map[string][]events.Position)
	traps := make(map[string]bool)
	for i := range total {
		to := 2 + i%7
		key := events.Direct(1, int64(to))
		content := strconv.Itoa(i)
		switch i % 1000 {
		case 100:
			publish(t, bus, key, "undecodable "+content)
		case 300:
			publish(t, bus, key, fmt.Sprintf(`{"type":"new_message","message":{"from":"one","to":%d},"timestamp":1}`, to))
		case 500:
			content = "trap " + content
			traps[content] = true
			fallthrough
		default:
			want[content] = []events.Position{publish(t, bus, key, value(to, content))}
		}
	}
	settle := run(t, bus, broken, sound)
	settle()
	require.Equal(t, want, sound.all())
	require.Len(t, broken.all(), total-12, "the neighbours of what is poisoned are handled")

	q := poison.New(bus, events.TopicMessages)
	panics := poison.Filter{Handler: "broken", Reason: "panic: trapped"}
	require.Len(t, panics.Select(entries(t, q)), 4)
	require.Len(t, entries(t, q), 4+2*8)

	broken.broken.Store(false)
	require.Equal(t, poison.Replayed{ToHandlers: 4}, replay(t, q, panics))
	settle()
	require.Equal(t, want, broken.all(), "once, at its original position")
	require.Equal(t, want, sound.all(), "a replay for another handler is none of its business")
	require.Equal(t, poison.Replayed{}, replay(t, q, panics), "what was replayed is not replayed again")
	panics.Replayed = true
	require.Len(t, panics.Select(entries(t, q)), 4)

	require.Equal(t, poison.Replayed{ToHandlers: 16}, replay(t, q, poison.Filter{}))
	settle()
	left := (&poison.Filter{}).Select(entries(t, q))
	require.Len(t, left, 16, "what is still undecodable is in the queue anew")
	require.Equal(t, want, sound.all())
}

func TestMisplacedRecordIsSentHomeOnceForAllHandlers(t *testing.T) {
	for name, filter := range map[string]poison.Filter{"one handler's entry": {Handler: "a"}, "all entries": {}} {
		t.Run(name, func(t *testing.T) { sendHome(t, filter) })
	}
}

func sendHome(t *testing.T, filter poison.Filter) {
	bus := memory.NewBus(memory.Config{})
	a, b := newWorker("a"), newWorker("b")
	settle := run(t, bus, a, b)
	home := events.Direct(1, 2)
	at := publish(t, bus, away(home), value(2, "lost"))
	settle()
	q := poison.New(bus, events.TopicMessages)
	require.Len(t, entries(t, q), 2)

	require.Equal(t, poison.Replayed{Home: 1}, replay(t, q, filter))
	require.Equal(t, poison.Replayed{}, replay(t, q, poison.Filter{}), "the other handler's entry went with it")
	settle()
	for _, w := range []*worker{a, b} {
		require.Len(t, w.all()["lost"], 1)
		require.Equal(t, events.Partition(home, 4), w.all()["lost"][0].Partition)
		require.NotEqual(t, at.Partition, w.all()["lost"][0].Partition)
	}
}

func TestEntryIsMarkedOnlyOnceItWasPublished(t *testing.T) {
	down := errors.New("down")
	for failing, again := range map[string]int{events.TopicMessages: 1, events.PoisonTopic(events.TopicMessages): 2} {
		t.Run(failing, func(t *testing.T) {
			var fails atomic.Bool
			bus := memory.NewBus(memory.Config{Fail: func(topic string, _ *message.Message) error {
				if fails.Load() && topic == failing {
					return down
				}
				return nil
			}})
			w := newWorker("w")
			w.broken.Store(true)
			settle := run(t, bus, w)
			at := publish(t, bus, events.Direct(1, 2), value(2, "trap"))
			settle()
			w.broken.Store(false)

			q := poison.New(bus, events.TopicMessages)
			fails.Store(true)
			_, err := q.Replay(t.Context(), entries(t, q), poison.Filter{}, 0)
			require.ErrorIs(t, err, down)
			fails.Store(false)
			require.Equal(t, poison.Replayed{ToHandlers: 1}, replay(t, q, poison.Filter{}))
			settle()
			require.Len(t, w.all()["trap"], again)
			for _, pos := range w.all()["trap"] {
				require.Equal(t, at, pos)
			}
		})
	}
}

func TestFilterSelects(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	all := []*poison.Entry{
		{ID: "0:0", Handler: "a", Reason: "panic: x", Time: noon},
		{ID: "0:1", Handler: "b", Reason: "panic: y", Time: noon.Add(time.Hour)},
		{ID: "0:2", Handler: "a", Reason: "misplaced"},
		{ID: "0:3", Handler: "a", Reason: "panic: x", Time: noon, Replayed: true},
	}
	for name, test := range map[string]struct {
		filter poison.Filter
		want   []string
	}{
		"all":           {poison.Filter{}, []string{"0:0", "0:1", "0:2"}},
		"replayed too":  {poison.Filter{Replayed: true}, []string{"0:0", "0:1", "0:2", "0:3"}},
		"handler":       {poison.Filter{Handler: "a"}, []string{"0:0", "0:2"}},
		"reason":        {poison.Filter{Reason: "panic"}, []string{"0:0", "0:1"}},
		"since":         {poison.Filter{Since: noon.Add(time.Minute)}, []string{"0:1"}},
		"until":         {poison.Filter{Until: noon}, []string{"0:0"}},
		"ids":           {poison.Filter{IDs: []string{"0:1", "0:3"}}, []string{"0:1"}},
		"several":       {poison.Filter{Handler: "a", Reason: "panic"}, []string{"0:0"}},
		"nothing is it": {poison.Filter{Handler: "c"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var ids []string
			for _, e := range test.filter.Select(all) {
				ids = append(ids, e.ID)
			}
			require.Equal(t, test.want, ids)
		})
	}
}

// padded is a valid record that is too long for the queue. It has unknown members, which are ignored.
func padded(to int, content string) string {
	return strings.TrimSuffix(value(to, content), "}") + `,"padding":"` + strings.Repeat("x", 300<<10) + `"}`
}

func TestRecordThatIsTooLongForTheQueueIsReplayedFromTheLog(t *testing.T) {
	bus := memory.NewBus(memory.Config{Fail: func(_ string, msg *message.Message) error {
		if msg.Metadata.Get(router.PoisonHandlerHeader)+msg.Metadata.Get(router.ReplayHandlerHeader) != "" && len(msg.Payload) > 64<<10 {
			return errors.New("too large")
		}
		return nil
	}})
	w := newWorker("w")
	w.broken.Store(true)
	settle := run(t, bus, w)
	at := publish(t, bus, events.Direct(1, 2), padded(2, "trap"))
	lost := publish(t, bus, events.Direct(1, 3), padded(3, "trap, lost"))
	settle()
	w.broken.Store(false)
	bus.Trim(events.TopicMessages, lost)

	q := poison.New(bus, events.TopicMessages)
	whole, gone := entries(t, q)[0], entries(t, q)[1]
	if whole.Position != at.String() {
		whole, gone = gone, whole
	}
	require.Equal(t, len(padded(2, "trap")), whole.ValueBytes)
	require.Less(t, len(whole.Payload), 64<<10)
	read, err := q.Value(t.Context(), whole)
	require.NoError(t, err)
	require.Equal(t, padded(2, "trap"), string(read))
	_, err = q.Value(t.Context(), gone)
	require.ErrorIs(t, err, pubsub.ErrTrimmed)

	require.Equal(t, poison.Replayed{ToHandlers: 1, Gone: []string{gone.ID}}, replay(t, q, poison.Filter{}))
	settle()
	require.Equal(t, map[string][]events.Position{"trap": {at}}, w.all(), "at its original position")
	require.Equal(t, poison.Replayed{Gone: []string{gone.ID}}, replay(t, q, poison.Filter{}), "it stays")
}

// A foreign producer chooses any partition. The replay must come after the original in the same partition, or the router
// refuses it.
func TestReplayGoesToThePartitionOfTheOriginalWhateverItsKey(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	w := newWorker("w")
	settle := run(t, bus, w)
	for range 4 { // without a key, each in another partition
		publish(t, bus, "", "undecodable")
	}
	publish(t, bus, strings.Repeat("k", 5000), "undecodable")
	settle()
	q := poison.New(bus, events.TopicMessages)
	require.Equal(t, poison.Replayed{ToHandlers: 5}, replay(t, q, poison.Filter{}))
	settle()
	again := (&poison.Filter{}).Select(entries(t, q))
	require.Len(t, again, 5)
	for _, e := range again {
		require.Contains(t, e.Reason, "invalid character", "for what it is, and not for where the replay lies")
	}
}

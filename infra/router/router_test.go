package router_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

func TestPermanentFailureGoesToThePoisonQueueAndTheRestGoesOn(t *testing.T) {
	home := events.Direct(1, 2)
	away := "somewhere else"
	for i := 0; events.Partition(away, 4) == events.Partition(home, 4); i++ {
		away += "!"
	}
	good, err := events.Encode(newMessage(2, "a"))
	require.NoError(t, err)
	tests := map[string]struct {
		key, value string
		work       func() error
		reason     string
	}{
		"not JSON":           {home, "hello", nil, "invalid event: jsontext: invalid character"},
		"not UTF-8":          {home, "\xff", nil, "invalid event: jsontext: invalid character"},
		"invalid":            {home, `{"type":"new_message","message":{"from":1},"timestamp":1}`, nil, "invalid event: want exactly one"},
		"in a wrong place":   {away, string(good), nil, "misplaced"},
		"marked permanent":   {home, string(good), func() error { return events.Permanent(errors.New("no such thing")) }, "no such thing"},
		"invalid to handler": {home, string(good), func() error { return &events.InvalidError{Reason: "odd"} }, "invalid event: odd"},
		"panic":              {home, string(good), func() error { panic("at the disco") }, "panic: at the disco"},
		"a long story": {home, string(good), func() error {
			return events.Permanent(errors.New(strings.Repeat("é", 5000)))
		}, strings.Repeat("é", 512)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			bad := publish(t, bus, test.key, test.value, "region", "north")
			next := publish(t, bus, home, `{"type":"new_message","message":{"from":1,"to":2,"content":"next","message_type":1}}`)
			var handled, settled journal[events.Position]
			h := handler(func(_ context.Context, r events.Record) error {
				if r.Message.Content != "next" {
					return test.work()
				}
				handled.add(r.Position)
				return nil
			})
			h.Settled = func(p events.Position) { settled.add(p) }
			run(t, bus, quick(), h)
			requireAllCommitted(t, bus)
			require.Equal(t, []events.Position{next}, handled.wait(t, 1))
			require.ElementsMatch(t, []events.Position{bad, next}, settled.wait(t, 2))

			record := poisonQueue(t, bus, 1)[0]
			require.Equal(t, test.value, string(record.Payload))
			require.Contains(t, record.Metadata.Get(router.PoisonReasonHeader), test.reason)
			require.LessOrEqual(t, len(record.Metadata.Get(router.PoisonReasonHeader)), 1024)
			for header, want := range map[string]string{
				pubsub.KeyHeader: test.key, "region": "north",
				router.PoisonTopicHeader: "message-events", router.PoisonPositionHeader: bad.String(),
				router.PoisonPartitionHeader: strings.Split(bad.String(), ":")[0], router.PoisonKeyHeader: test.key,
				router.PoisonHandlerHeader: "test", router.PoisonGroupHeader: "test-group",
			} {
				require.Equal(t, want, record.Metadata.Get(header), header)
			}
		})
	}
}

// A foreign producer may choose the partition without a key. Only where the conversation belongs counts.
func TestRecordWithoutKeyInItsPartitionIsHandled(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	pos := publish(t, bus, "", `{"type":"new_message","message":{"from":1,"to":2,"content":"x","message_type":1},"timestamp":1}`)
	var handled journal[events.Record]
	run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		handled.add(r)
		return nil
	}))
	r := handled.wait(t, 1)[0]
	require.Equal(t, pos, r.Position)
	require.Equal(t, "u:1:2", r.ConversationKey())
	require.NotEmpty(t, r.EventID)
}

func TestUnknownTypeIsSettledUnhandled(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	pos := publish(t, bus, "k", `{"type":"from_the_future","timestamp":1}`)
	var settled journal[events.Position]
	var outcomes journal[router.Outcome]
	h := handler(func(context.Context, events.Record) error { return errors.New("not mine") })
	h.Settled = func(p events.Position) { settled.add(p) }
	opts := quick()
	opts.Observe = func(o router.Observation) { outcomes.add(o.Outcome) }
	run(t, bus, opts, h)
	require.Equal(t, []events.Position{pos}, settled.wait(t, 1))
	require.Equal(t, []router.Outcome{router.Skipped}, outcomes.wait(t, 1))
	requireAllCommitted(t, bus)
}

func TestReplayIsHandledByItsHandlerAlone(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "other")
	publishEvent(t, bus, newMessage(2, "b"), router.ReplayHandlerHeader, "test")
	publish(t, bus, events.Direct(1, 2), "undecodable, and not ours", router.ReplayHandlerHeader, "other")
	var handled journal[string]
	run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Message.ClientMsgID)
		return nil
	}))
	requireAllCommitted(t, bus)
	require.Equal(t, []string{"b"}, handled.all())
	requireNothingPoisoned(t, bus)
}

func TestRecordIsSettledInOrderBeforeItIsAcknowledged(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	var settled journal[events.Position]
	h := handler(func(context.Context, events.Record) error { return nil })
	h.Settled = func(p events.Position) {
		committed, err := bus.Log(events.TopicMessages).Committed(context.Background(), "test-group")
		if err != nil || committed[0] != p.Seq-1 {
			t.Errorf("committed %v when settling %v: %v", committed, p, err)
		}
		settled.add(p)
	}
	run(t, bus, quick(), h)
	var want []events.Position
	for _, id := range []string{"a", "b", "c"} {
		want = append(want, publishEvent(t, bus, newMessage(2, id)))
	}
	require.Equal(t, want, settled.wait(t, 3))
}

func TestAssignmentsReachTheHandler(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	var seen journal[any]
	h := handler(func(_ context.Context, r events.Record) error {
		seen.add(r.Position)
		return nil
	})
	h.Assigned = func(after events.Position) { seen.add(after) }
	h.Released = func(p int32) { seen.add(p) }
	pos := publishEvent(t, bus, newMessage(2, "a"))
	stop := run(t, bus, quick(), h)
	seen.wait(t, 2)
	stop()
	require.Equal(t, []any{events.Position{}, pos, int32(0)}, seen.wait(t, 3))
}

func TestObservationTellsRetries(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var seen journal[router.Observation]
	opts := quick()
	opts.Retries = 2
	opts.Observe = func(o router.Observation) { seen.add(o) }
	attempts := 0
	run(t, bus, opts, handler(func(context.Context, events.Record) error {
		if attempts++; attempts < 5 {
			return errDown
		}
		return nil
	}))
	publishEvent(t, bus, newMessage(2, "a"))
	got := seen.wait(t, 2)
	require.Positive(t, got[0].Took)
	got[0].Took, got[1].Took, got[0].Age, got[1].Age = 0, 0, 0, 0
	require.Equal(t, []router.Observation{
		{Handler: "test", Outcome: router.Failed, Records: 1, Retries: 2},
		{Handler: "test", Outcome: router.Handled, Records: 1, Retries: 1},
	}, got)
}

func TestCorrelationReachesHandlerAndLog(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var lines logged
	var ids journal[string]
	r, err := router.New(bus, []events.Handler{handler(func(ctx context.Context, _ events.Record) error {
		ids.add(events.Correlation(ctx))
		return events.Permanent(errors.New("no"))
	})}, quick(), slog.New(slog.NewJSONHandler(&lines, nil)))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	pos := publishEvent(t, bus, newMessage(2, "secret"), "correlation_id", "c-1")
	require.Equal(t, []string{"c-1"}, ids.wait(t, 1))
	line := lines.wait(t, 1)[0]
	require.NoError(t, r.Close())
	require.NoError(t, <-ended)
	require.Equal(t, "c-1", line["correlation_id"])
	require.Equal(t, "test", line["handler"])
	require.InDelta(t, pos.Seq, line["seq"], 0)
	require.NotContains(t, fmt.Sprint(lines.all()), "secret")
}

func TestRunEndsWithItsContext(t *testing.T) {
	for name, handlers := range map[string][]events.Handler{
		"no handlers": nil,
		"one handler": {handler(func(context.Context, events.Record) error { return nil })},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := router.New(memory.NewBus(memory.Config{}), handlers, quick(), slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()
			<-r.Running()
			cancel()
			require.NoError(t, <-ended)
			require.NoError(t, r.Close())
		})
	}
}

func TestCloseWithoutRunLeavesTheGroups(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	r, err := router.New(bus, []events.Handler{handler(nil)}, router.Options{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

func TestHandlersOfOneNameAreRefused(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	_, err := router.New(bus, []events.Handler{handler(nil), handler(nil)}, router.Options{}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, `"test"`)
}

// The router is closed at different moments while it subscribes.
func TestRouterThatIsClosedWhileItStartsEndsInOrder(t *testing.T) {
	for i := range 50 {
		bus := memory.NewBus(memory.Config{})
		work := func(context.Context, events.Record) error { return nil }
		handlers := []events.Handler{handler(work), handler(work), handler(work)}
		for n := range handlers {
			handlers[n].Name, handlers[n].Group = fmt.Sprint("test-", n), fmt.Sprint("group-", n)
		}
		r, err := router.New(bus, handlers, quick(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(context.Background()) }()
		<-time.After(time.Duration(i) * 20 * time.Microsecond) // a different moment each time; decides nothing
		require.NoError(t, r.Close())
		require.NoError(t, <-ended)
	}
}

// Whatever a producer puts into a record, its poison record is far smaller than what a broker accepts.
func TestPoisonRecordAlwaysFits(t *testing.T) {
	huge := strings.Repeat("x", 3_000_000)
	home := events.Direct(1, 2)
	flood := map[string]string{}
	for i := range 20_000 {
		flood[fmt.Sprintf("header-%05d", i)] = "0123456789"
	}
	tests := map[string]struct {
		key, value string
		headers    map[string]string
		cut        map[string]string // what the poison record says that it left out
	}{
		"a huge value":   {home, huge, nil, map[string]string{router.PoisonValueBytesHeader: "3000000"}},
		"a huge key":     {huge, "x", nil, map[string]string{router.PoisonKeyBytesHeader: "3000000"}},
		"a huge header":  {home, "x", map[string]string{"a": huge}, map[string]string{router.PoisonDroppedHeadersHeader: "1"}},
		"a header flood": {home, "x", flood, map[string]string{router.PoisonDroppedHeadersHeader: "19256"}},
		"a huge name":    {home, "x", map[string]string{huge: "a"}, map[string]string{router.PoisonDroppedHeadersHeader: "1"}},
		"a huge id":      {home, "x", map[string]string{events.CorrelationHeader: huge}, map[string]string{router.PoisonDroppedHeadersHeader: "1"}},
		"forged headers of the queue": {home, "x", map[string]string{
			"poison_replayed": "0:0", router.PoisonHandlerHeader: huge, router.PoisonValueBytesHeader: "7", "poison_more": huge,
		}, nil},
		"forged headers of a replay": {home, "x", map[string]string{
			router.ReplayHandlerHeader: "test", router.ReplayPositionHeader: huge, router.ReplayValueBytesHeader: huge, "millrace_replay_more": huge,
		}, nil},
		"no value and no key": {"", "", nil, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			size := 0
			bus := memory.NewBus(memory.Config{Partitions: 1, Fail: func(topic string, msg *message.Message) error {
				if topic == events.TopicMessages {
					return nil
				}
				for name, value := range msg.Metadata {
					size += len(name) + len(value)
				}
				size += len(msg.UUID) + len(msg.Payload)
				return nil
			}})
			bad := message.NewMessage(huge, []byte(test.value))
			bad.Metadata = message.Metadata{pubsub.KeyHeader: test.key, "region": "north"}
			for name, value := range test.headers {
				bad.Metadata.Set(name, value)
			}
			require.NoError(t, bus.Publisher().Publish(events.TopicMessages, bad))
			next := publishEvent(t, bus, newMessage(2, "next"))
			var handled journal[events.Position]
			run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
				handled.add(r.Position)
				return nil
			}))
			require.Equal(t, []events.Position{next}, handled.wait(t, 1))
			poisoned := poisonQueue(t, bus, 1)[0]
			require.Less(t, size, 64<<10)
			pos, err := bus.Position(bad)
			require.NoError(t, err)
			require.Equal(t, pos.String(), poisoned.Metadata.Get(router.PoisonPositionHeader))
			require.Equal(t, "test", poisoned.Metadata.Get(router.PoisonHandlerHeader))
			require.NotEmpty(t, poisoned.Metadata.Get(router.PoisonReasonHeader))
			require.True(t, strings.HasPrefix(test.value, string(poisoned.Payload)))
			require.True(t, strings.HasPrefix(test.key, poisoned.Metadata.Get(router.PoisonKeyHeader)))
			if len(test.headers) < 10 {
				require.Equal(t, "north", poisoned.Metadata.Get("region"))
			}
			for _, header := range []string{
				router.PoisonValueBytesHeader, router.PoisonKeyBytesHeader, router.PoisonDroppedHeadersHeader,
				"poison_replayed", "poison_more", "millrace_replay_more", router.ReplayHandlerHeader,
			} {
				require.Equal(t, test.cut[header], poisoned.Metadata.Get(header), header)
			}
		})
	}
}

package router_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

// each calls add for each delivery that is observed.
func each(add func(outcome string)) func(router.Observation) {
	return func(o router.Observation) {
		for range o.Records {
			add(string(o.Outcome))
		}
	}
}

func TestRecordsOfOtherTypesAreSkipped(t *testing.T) {
	for name, header := range map[string]func(events.Type) []string{
		"their headers say so":  func(of events.Type) []string { return []string{events.TypeHeader, string(of)} },
		"they have no header":   func(events.Type) []string { return nil },
		"their header is wrong": func(events.Type) []string { return []string{events.TypeHeader, "text"} },
	} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			var got journal[string]
			var observed journal[string]
			var settled journal[events.Position]
			h := handler(func(_ context.Context, r events.Record) error {
				got.add(string(r.Type))
				return nil
			})
			h.Types = []events.Type{events.MemberJoined}
			h.HandleBatch = func(ctx context.Context, records []events.Record) []error {
				for i := range records {
					got.add(string(records[i].Type))
				}
				return make([]error, len(records))
			}
			h.Settled = func(p events.Position) { settled.add(p) }
			opts := quick()
			opts.Observe = each(observed.add)
			joined := events.Event{Type: events.MemberJoined, EventID: "j", Conversation: "g:7", GroupID: 7, User: 2, By: 1, Timestamp: 1}
			left := joined
			left.Type, left.EventID = events.MemberLeft, "l"
			publishEvent(t, bus, &left, header(left.Type)...)
			publishEvent(t, bus, &joined, header(joined.Type)...)
			publishEvent(t, bus, &left, header(left.Type)...)
			run(t, bus, opts, h)
			settled.wait(t, 3)
			publishEvent(t, bus, &left, header(left.Type)...) // alone
			settled.wait(t, 4)
			requireAllCommitted(t, bus)
			require.Equal(t, []string{"member_joined"}, got.all())
			require.ElementsMatch(t, []string{"skipped", "handled", "skipped", "skipped"}, observed.all())
			requireNothingPoisoned(t, bus)
		})
	}
}

// A record whose header says that it is not for the handler is another handler's to refuse.
func TestRecordOfAnotherTypeIsNotDecoded(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	h := handler(func(context.Context, events.Record) error { return errDown })
	h.Types = []events.Type{events.MemberJoined}
	h.HandleBatch = func(_ context.Context, records []events.Record) []error { return make([]error, len(records)) }
	for range 3 {
		publish(t, bus, "g:7", "undecodable", events.TypeHeader, string(events.MemberLeft))
	}
	publish(t, bus, "g:7", "poison", events.TypeHeader, string(events.MemberJoined))
	run(t, bus, quick(), h)
	requireAllCommitted(t, bus)
	require.Equal(t, "poison", string(poisonQueue(t, bus, 1)[0].Payload))
}

func TestBatchIsObservedByTheAgeOfItsRecords(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	h := handler(nil)
	h.HandleBatch = func(_ context.Context, records []events.Record) []error { return make([]error, len(records)) }
	now := time.Now().Unix()
	for i, ago := range []int64{100, 100, 50, 50, 50, 100} {
		e := newMessage(2, strconv.Itoa(i))
		e.Timestamp = now - ago
		publishEvent(t, bus, e)
	}
	var seen journal[router.Observation]
	opts := quick()
	opts.Observe = func(o router.Observation) { seen.add(o) }
	run(t, bus, opts, h)
	requireAllCommitted(t, bus)
	var got [][2]int
	for _, o := range seen.all() {
		require.Equal(t, router.Handled, o.Outcome)
		require.Equal(t, seen.all()[0].Took, o.Took)
		require.Positive(t, o.Took)
		got = append(got, [2]int{o.Records, int(o.Age.Round(10 * time.Second).Seconds())})
	}
	require.Equal(t, [][2]int{{2, 100}, {3, 50}, {1, 100}}, got)
}

// What the handler has done is settled also if the router stops meanwhile, so that it need not be done again.
func TestRecordsOfABatchAreSettledAlsoWhenTheRouterStopsMeanwhile(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	var settled journal[events.Position]
	begun, stopping := make(chan struct{}), make(chan struct{})
	h := handler(nil)
	h.HandleBatch = func(_ context.Context, records []events.Record) []error {
		close(begun)
		<-stopping
		return make([]error, len(records))
	}
	h.Settled = func(p events.Position) { settled.add(p) }
	for i := range 3 {
		publishEvent(t, bus, newMessage(2, strconv.Itoa(i)))
	}
	r, err := router.New(bus, []events.Handler{h}, quick(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-begun
	stop()
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	close(stopping)
	require.NoError(t, <-closed)
	require.NoError(t, <-ended)
	require.Len(t, settled.all(), 3)
}

func TestBatchIsTriedFirstAndWhatFailsIsHandledAlone(t *testing.T) {
	first, second := newMessage(2, "first"), newMessage(2, "second")
	one := []string{"first"}
	both := []string{"first", "second"}
	for name, test := range map[string]struct {
		batch func([]events.Record) []error
		alone []string
	}{
		"all well":         {func(r []events.Record) []error { return make([]error, len(r)) }, nil},
		"one fails":        {func([]events.Record) []error { return []error{errDown, nil} }, one},
		"one is permanent": {func([]events.Record) []error { return []error{events.Permanent(errDown), nil} }, one},
		"all fail":         {func([]events.Record) []error { return []error{errDown, errDown} }, both},
		"panic":            {func([]events.Record) []error { panic("at the disco") }, both},
		"too few answers":  {func([]events.Record) []error { return nil }, both},
	} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			var batches journal[[]string]
			var alone, observed journal[string]
			var settled journal[events.Position]
			h := handler(func(_ context.Context, r events.Record) error {
				alone.add(r.Message.ClientMsgID)
				return nil
			})
			h.HandleBatch = func(_ context.Context, records []events.Record) []error {
				var ids []string
				for _, r := range records {
					ids = append(ids, r.Message.ClientMsgID)
				}
				batches.add(ids)
				return test.batch(records)
			}
			h.Settled = func(p events.Position) { settled.add(p) }
			opts := quick()
			opts.Observe = each(observed.add)
			publishEvent(t, bus, first)
			publishEvent(t, bus, second)
			run(t, bus, opts, h)
			settled.wait(t, 2)
			requireAllCommitted(t, bus)
			require.Equal(t, [][]string{both}, batches.all())
			require.Equal(t, test.alone, alone.all())
			require.Equal(t, []string{"handled", "handled"}, observed.all())
			requireNothingPoisoned(t, bus)
		})
	}
}

// A store that was too slow for one batch gets another, and does not have to take all its records one by one.
func TestBatchOfWhichNothingWasHandledIsTriedAgain(t *testing.T) {
	const records = 16
	for failing, want := range [][]int{{16}, {16, 15}, {16, 15, 13}, {16, 15, 13, 9}, {16, 15, 13, 9}} {
		var batches journal[int]
		var alone journal[string]
		var settled journal[events.Position]
		h := handler(func(_ context.Context, r events.Record) error {
			alone.add(r.Message.ClientMsgID)
			return nil
		})
		h.HandleBatch = func(_ context.Context, records []events.Record) []error {
			batches.add(len(records))
			errs := make([]error, len(records))
			if len(batches.all()) <= failing {
				for i := range errs {
					errs[i] = errDown
				}
			}
			return errs
		}
		h.Settled = func(p events.Position) { settled.add(p) }
		bus := memory.NewBus(memory.Config{})
		for i := range records {
			publishEvent(t, bus, newMessage(2, strconv.Itoa(i)))
		}
		run(t, bus, quick(), h)
		settled.wait(t, records)
		requireAllCommitted(t, bus)
		require.Equal(t, want, batches.all())
		handledAlone := records
		if failing < len(want) {
			handledAlone -= want[failing]
		}
		require.Len(t, alone.all(), handledAlone)
	}
}

func TestBatchLeavesOutWhatIsNotForTheHandler(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var batches journal[int]
	h := handler(func(context.Context, events.Record) error { return nil })
	h.HandleBatch = func(_ context.Context, records []events.Record) []error {
		batches.add(len(records))
		return make([]error, len(records))
	}
	publishEvent(t, bus, newMessage(2, "first"))
	publish(t, bus, events.Direct(1, 2), "undecodable")
	run(t, bus, quick(), h)
	requireAllCommitted(t, bus)
	require.Equal(t, []int{1}, batches.all())
	require.Equal(t, "undecodable", string(poisonQueue(t, bus, 1)[0].Payload))
}

// The bus makes bundles, and the records belong to many conversations. Some fail for a while and some for good.
func TestBatchesOverKafkaKeepOrderAndLoseNothing(t *testing.T) {
	bus := overKafka(t)
	const conversations, messages = 4, 200
	for i := range messages {
		for to := range int64(conversations) {
			publishEvent(t, bus, newMessage(to+1, strconv.Itoa(i)))
		}
	}
	var handled journal[events.Record]
	failures := map[string]int{}
	work := func(r events.Record) error {
		id := r.Message.ClientMsgID
		n, _ := strconv.Atoi(id)
		switch {
		case n%50 == 7:
			return events.Permanent(errDown)
		case n%50 == 13 && failures[r.EventID] < 3:
			failures[r.EventID]++
			return errDown
		}
		handled.add(r)
		return nil
	}
	one := make(chan struct{}, 1) // the journal has the order of the partitions only if they take turns
	h := handler(func(_ context.Context, r events.Record) error {
		one <- struct{}{}
		defer func() { <-one }()
		return work(r)
	})
	largest := 0
	h.HandleBatch = func(_ context.Context, records []events.Record) []error {
		one <- struct{}{}
		defer func() { <-one }()
		largest = max(largest, len(records))
		errs := make([]error, len(records))
		for i, r := range records {
			errs[i] = work(r)
		}
		return errs
	}
	var settled journal[events.Position]
	h.Settled = func(p events.Position) { settled.add(p) }
	run(t, bus, quick(), h)
	requireAllCommitted(t, bus)

	one <- struct{}{}
	require.Greater(t, largest, 1)
	ids := map[string]int{}
	for _, r := range handled.all() {
		ids[r.EventID]++
	}
	require.Len(t, ids, conversations*messages*49/50, "all but one in fifty")
	for id, times := range ids {
		require.Equal(t, 1, times, id)
	}
	require.Len(t, poisonQueue(t, bus, conversations*messages/50), conversations*messages/50)
	byPartition := map[int32][]int64{}
	for _, p := range settled.all() {
		byPartition[p.Partition] = append(byPartition[p.Partition], p.Seq)
	}
	for _, seqs := range byPartition {
		require.True(t, slices.IsSorted(seqs), "settled in order, each once")
		require.Len(t, slices.Compact(seqs), len(seqs))
	}
}

// What a batch leaves, for want of time for example, is tried as a batch again too.
func TestBatchOfWhichSomethingIsLeftIsTriedAgain(t *testing.T) {
	const records, atOnce = 16, 5
	var batches journal[int]
	var handled journal[string]
	var settled journal[events.Position]
	h := handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Message.ClientMsgID)
		return nil
	})
	h.HandleBatch = func(_ context.Context, records []events.Record) []error {
		batches.add(len(records))
		errs := make([]error, len(records))
		for i, r := range records {
			if i%2 == 1 || i >= 2*atOnce {
				errs[i] = errDown
				continue
			}
			handled.add(r.Message.ClientMsgID)
		}
		return errs
	}
	h.Settled = func(p events.Position) { settled.add(p) }
	bus := memory.NewBus(memory.Config{})
	for i := range records {
		publishEvent(t, bus, newMessage(2, strconv.Itoa(i)))
	}
	run(t, bus, quick(), h)
	settled.wait(t, records)
	requireAllCommitted(t, bus)
	require.Equal(t, []int{16, 10, 3}, batches.all())
	require.Len(t, handled.all(), records)
	require.True(t, slices.IsSortedFunc(settled.all(), func(a, b events.Position) int { return int(a.Seq - b.Seq) }))
}

func TestHandlerHasItsOwnTimeout(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var left journal[time.Duration]
	note := func(ctx context.Context) {
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		left.add(time.Until(deadline).Round(time.Minute))
	}
	h := handler(func(ctx context.Context, _ events.Record) error {
		note(ctx)
		return nil
	})
	h.Timeout = 7 * time.Minute
	h.HandleBatch = func(ctx context.Context, records []events.Record) []error {
		note(ctx)
		return slices.Repeat([]error{errDown}, len(records))
	}
	publishEvent(t, bus, newMessage(2, "first"))
	publishEvent(t, bus, newMessage(2, "second"))
	run(t, bus, quick(), h)
	requireAllCommitted(t, bus)
	require.Equal(t, slices.Repeat([]time.Duration{7 * time.Minute}, 3), left.all())
}

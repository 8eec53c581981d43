package router_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

var errDown = errors.New("store is down")

// Whatever goes wrong in the attempts before one succeeds, every record is handled, in order, and none is poisoned.
func TestFailingHandlerLosesNothing(t *testing.T) {
	tests := map[string]struct {
		fail     func(ctx context.Context) error
		failures int32
	}{
		"an error, then success":                     {func(context.Context) error { return errDown }, 1},
		"errors beyond the retries: it comes again":  {func(context.Context) error { return errDown }, 9},
		"a cancelled context of the handler's own":   {func(context.Context) error { return context.Canceled }, 9},
		"cancellation marked as permanent":           {func(context.Context) error { return events.Permanent(context.Canceled) }, 2},
		"the time is up":                             {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 2},
		"the time is up, noticed beyond the retries": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 6},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			var want []string
			for i := range 5 {
				id := strconv.Itoa(i)
				publishEvent(t, bus, newMessage(2, id))
				want = append(want, id)
			}
			var attempts atomic.Int32
			var handled journal[string]
			opts := quick()
			opts.Timeout = 200 * time.Millisecond
			run(t, bus, opts, handler(func(ctx context.Context, r events.Record) error {
				if attempts.Add(1) <= test.failures {
					return test.fail(ctx)
				}
				handled.add(r.Message.ClientMsgID)
				return ctx.Err()
			}))
			require.Equal(t, want, handled.wait(t, 5))
			requireAllCommitted(t, bus)
			requireNothingPoisoned(t, bus)
		})
	}
}

// If marks were set before the handler runs, each second attempt would look like a repeat.
func TestFailedAttemptLeavesNoMark(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	marks := router.NewMarks(10)
	opts := quick()
	opts.Marks = func(string) router.Marks { return marks }
	id := newMessage(2, "a").Message.MessageID
	var marked journal[bool]
	run(t, bus, opts, handler(func(ctx context.Context, r events.Record) error {
		marked.add(marks.Marked(ctx, r.EventID)[0].Seq != 0)
		if len(marked.all()) < 12 {
			return errDown
		}
		return nil
	}))
	pos := publishEvent(t, bus, newMessage(2, "a"))
	requireAllCommitted(t, bus)
	require.Equal(t, make([]bool, 12), marked.all())
	require.Equal(t, []events.Position{pos}, marks.Marked(t.Context(), id))
}

func TestRepeatAtLaterPositionIsSkippedAndSettled(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var handled journal[string]
	var settled, outcomes journal[any]
	h := handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Message.ClientMsgID)
		return nil
	})
	h.Settled = func(p events.Position) { settled.add(p) }
	opts := quick()
	opts.Observe = func(o router.Observation) { outcomes.add(o.Outcome) }
	run(t, bus, opts, h)
	var want []any
	for _, id := range []string{"a", "a", "b", "a"} {
		want = append(want, publishEvent(t, bus, newMessage(2, id)))
	}
	require.Equal(t, want, settled.wait(t, 4))
	require.Equal(t, []string{"a", "b"}, handled.all())
	require.Equal(t, []any{router.Handled, router.Repeated, router.Handled, router.Repeated}, outcomes.wait(t, 4))
}

// Nobody knows whether a record's work was finished when it comes again, whoever has marked it.
func TestRedeliveryAtMarkedPositionIsHandledAgain(t *testing.T) {
	for name, ahead := range map[string]int64{"the same position": 0, "a mark of a repeat behind it": 3} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			pos := publishEvent(t, bus, newMessage(2, "a"))
			marks := router.NewMarks(10)
			marks.Mark(t.Context(), router.Mark{
				EventID: newMessage(2, "a").Message.MessageID, At: events.Position{Partition: pos.Partition, Seq: pos.Seq + ahead},
			})
			opts := quick()
			opts.Marks = func(string) router.Marks { return marks }
			var handled journal[events.Position]
			run(t, bus, opts, handler(func(_ context.Context, r events.Record) error {
				handled.add(r.Position)
				return nil
			}))
			require.Equal(t, []events.Position{pos}, handled.wait(t, 1))
		})
	}
}

// The record that is being handled is finished although the router stops, and the handler's context goes on.
func TestShutdownWhileHandlingNeitherPoisonsNorLoses(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	publishEvent(t, bus, newMessage(2, "a"))
	publishEvent(t, bus, newMessage(2, "b"))
	started, finish := make(chan struct{}), make(chan struct{})
	var finished journal[error]
	var settled journal[events.Position]
	h := handler(func(ctx context.Context, r events.Record) error {
		close(started)
		<-finish
		finished.add(ctx.Err())
		return ctx.Err()
	})
	h.Settled = func(p events.Position) { settled.add(p) }
	released := make(chan struct{})
	h.Released = func(int32) { close(released) }

	stop := run(t, bus, router.Options{}, h)
	<-started
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	<-released // the subscriber has given up the record, so its context is done
	close(finish)
	<-stopped
	require.Equal(t, []error{nil}, finished.all())
	require.Len(t, settled.all(), 1)
	requireNothingPoisoned(t, bus)

	var handled journal[string]
	run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Message.ClientMsgID)
		return nil
	}))
	requireAllCommitted(t, bus)
	require.Contains(t, handled.all(), "b")
}

// A record that fails while the router stops is given back: it is neither settled nor poisoned, and the next router handles
// it.
func TestShutdownWhileRetryingGivesTheRecordBack(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	publishEvent(t, bus, newMessage(2, "a"))
	failed := make(chan struct{}, 1000)
	h := handler(func(context.Context, events.Record) error {
		select {
		case failed <- struct{}{}:
		default:
		}
		return errDown
	})
	h.Settled = func(p events.Position) { t.Errorf("settled %v", p) }
	stop := run(t, bus, router.Options{RetryPause: time.Minute}, h)
	<-failed
	stop() // it returns long before a minute has passed
	requireNothingPoisoned(t, bus)

	var handled journal[string]
	run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Message.ClientMsgID)
		return nil
	}))
	require.Equal(t, []string{"a"}, handled.wait(t, 1))
}

func TestPoisonThatCannotBePublishedIsNotDropped(t *testing.T) {
	var refusals atomic.Int32
	bus := memory.NewBus(memory.Config{Fail: func(topic string, _ *message.Message) error {
		if topic == events.PoisonTopic(events.TopicMessages) && refusals.Add(1) <= 3 {
			return errDown
		}
		return nil
	}})
	var outcomes journal[router.Outcome]
	var settled journal[events.Position]
	opts := quick()
	opts.Observe = func(o router.Observation) { outcomes.add(o.Outcome) }
	h := handler(func(context.Context, events.Record) error { return events.Permanent(errors.New("bad")) })
	h.Settled = func(p events.Position) { settled.add(p) }
	run(t, bus, opts, h)
	pos := publishEvent(t, bus, newMessage(2, "a"))
	requireAllCommitted(t, bus)
	require.Len(t, poisonQueue(t, bus, 1), 1)
	require.Equal(t, []events.Position{pos}, settled.wait(t, 1))
	require.Equal(t, []router.Outcome{router.Failed, router.Failed, router.Failed, router.Poisoned}, outcomes.wait(t, 4))
}

// A stuck partition of one handler holds up neither its other partitions nor other handlers.
func TestFailureHoldsUpOnlyItsPartitionOfItsHandler(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	bad := publishEvent(t, bus, newMessage(2, "bad"))
	other := int64(3)
	for events.Partition(events.Direct(1, other), 4) == bad.Partition {
		other++
	}
	publishEvent(t, bus, newMessage(2, "behind"))
	publishEvent(t, bus, newMessage(other, "beside"))
	var stuck, healthy journal[string]
	first := handler(func(_ context.Context, r events.Record) error {
		if r.Message.ClientMsgID == "bad" {
			return errDown
		}
		stuck.add(r.Message.ClientMsgID)
		return nil
	})
	second := handler(func(_ context.Context, r events.Record) error {
		healthy.add(r.Message.ClientMsgID)
		return nil
	})
	second.Name, second.Group = "second", "second-group"
	run(t, bus, quick(), first, second)
	require.ElementsMatch(t, []string{"bad", "behind", "beside"}, healthy.wait(t, 3))
	require.Equal(t, []string{"beside"}, stuck.wait(t, 1))
}

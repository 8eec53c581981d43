package poison_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

// retrying runs a retrier until the end of the test.
func retrying(t *testing.T, r *poison.Retrier) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

// newRetrier returns a retrier with a follower of its own, as a process has.
func newRetrier(bus pubsub.Bus, h events.Handler) *poison.Retrier {
	handlers := []events.Handler{h}
	followers := []*poison.Follower{poison.Follow(bus, events.TopicMessages, handlers)}
	return poison.NewRetrier(followers, handlers, time.Minute, slog.New(slog.DiscardHandler))
}

// publishEvent publishes a message of user 1, or a change to one.
func publishEvent(t *testing.T, bus pubsub.Bus, e *events.Event) events.Position {
	t.Helper()
	e.Timestamp = 1
	value, err := events.Encode(e)
	require.NoError(t, err)
	return publish(t, bus, e.ConversationKey(), string(value))
}

func newMessage(to int64, content string) *events.Event {
	conversation := events.Direct(1, to)
	return &events.Event{Type: events.NewMessage, Message: &events.Message{
		MessageID: events.MessageID(1, conversation, content), ClientMsgID: content, Conversation: conversation,
		From: 1, To: to, Content: content, MessageType: 1, Timestamp: 1,
	}}
}

// One message fails for ten minutes while its conversation and another go on.
func TestStuckRecordIsTriedAgainUntilItIsHandledInItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.Config{Partitions: 2})
		other := int64(3)
		for events.Partition(events.Direct(1, other), 2) == events.Partition(events.Direct(1, 2), 2) {
			other++
		}
		var broken atomic.Bool
		broken.Store(true)
		var mu sync.Mutex
		handled := map[int32][]string{} // by partition
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group", Handle: func(_ context.Context, r events.Record) error {
			content := r.Content
			if r.Message != nil {
				content = r.Message.Content
			}
			if content == "trap" && broken.Load() {
				return errors.New("down")
			}
			mu.Lock()
			defer mu.Unlock()
			handled[r.Partition] = append(handled[r.Partition], fmt.Sprintf("%s at %d", content, r.Seq))
			return nil
		}}
		retrier := newRetrier(bus, h)
		runHandlers(t, bus, retrier.Handlers(), router.Options{StuckAfter: time.Minute})
		retrying(t, retrier)

		trap := newMessage(2, "trap")
		at := publishEvent(t, bus, trap)
		want := map[int32][]string{}
		note := func(content string, pos events.Position) {
			want[pos.Partition] = append(want[pos.Partition], fmt.Sprintf("%s at %d", content, pos.Seq))
		}
		for i := range 120 {
			content := strconv.Itoa(i)
			note(content, publishEvent(t, bus, newMessage(2, content)))
			note(content, publishEvent(t, bus, newMessage(other, content)))
			<-time.After(5 * time.Second)
		}
		edited := publishEvent(t, bus, &events.Event{
			Type: events.MessageEdited, Conversation: events.Direct(1, 2), MessageID: trap.Message.MessageID, MessageSeq: at.Seq,
			By: 1, Content: "edited",
		})
		note("edited", edited)
		<-time.After(5 * time.Second)
		synctest.Wait()
		require.Equal(t, want, handled, "in order, whatever becomes of the one")
		q := poison.New(bus, events.TopicMessages)
		require.Greater(t, len(entries(t, q)), 3, "it was tried again, and was stuck again")

		broken.Store(false)
		<-time.After(3 * time.Minute)
		synctest.Wait()
		note("trap", at)
		note("edited", edited)
		require.Equal(t, want, handled, "once, at its original position, and then its edit")
		for _, e := range entries(t, q) {
			require.Equal(t, "stuck: down", e.Reason)
			require.Equal(t, at.String(), e.Position)
			require.True(t, e.Replayed)
		}
	})
}

// poisoned puts an entry into the queue, as the router would.
func poisoned(t *testing.T, bus pubsub.Bus, handler string, to int64, reason string) events.Position {
	t.Helper()
	key := events.Direct(1, to)
	pos := events.Position{Partition: events.Partition(key, 4), Seq: 1}
	msg := message.NewMessage("", []byte(value(int(to), handler+" "+reason)))
	for header, value := range map[string]string{
		pubsub.KeyHeader: key, router.PoisonKeyHeader: key, router.PoisonTopicHeader: events.TopicMessages,
		router.PoisonPositionHeader: pos.String(), router.PoisonHandlerHeader: handler, router.PoisonReasonHeader: reason,
		router.PoisonTimeHeader: time.Now().UTC().Format(time.RFC3339),
	} {
		msg.Metadata.Set(header, value)
	}
	require.NoError(t, bus.Publisher().Publish(events.PoisonTopic(events.TopicMessages), msg))
	return pos
}

// replays returns the handlers and original positions of the replays in the log.
func replays(t *testing.T, bus pubsub.Bus) []string {
	t.Helper()
	log := bus.Log(events.TopicMessages)
	end, err := log.End(t.Context())
	require.NoError(t, err)
	var all []string
	for partition := range log.Partitions() {
		ranges := []events.Range{{Partition: partition, Through: end[partition]}}
		require.NoError(t, log.Read(t.Context(), ranges, func(r pubsub.RawRecord) error {
			all = append(all, r.Headers.Get(router.ReplayHandlerHeader)+" "+r.Headers.Get(router.ReplayPositionHeader))
			return nil
		}))
	}
	return all
}

func TestStuckRecordIsTriedAgainByTheOwnerOfItsPartitionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.Config{})
		var told []any
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group"}
		h.Assigned = func(after events.Position) { told = append(told, after) }
		h.Released = func(partition int32) { told = append(told, partition) }
		one := newRetrier(bus, h)
		two := newRetrier(bus, h)
		retrying(t, two)
		first := poisoned(t, bus, "w", 2, "stuck: down")
		to := int64(3)
		for events.Partition(events.Direct(1, to), 4) == first.Partition {
			to++
		}
		second := poisoned(t, bus, "w", to, "stuck: down")
		poisoned(t, bus, "w", to, "panic: not stuck:")
		poisoned(t, bus, "another", to, "stuck: down")
		one.Handlers()[0].Assigned(first)
		two.Handlers()[0].Assigned(second)
		<-time.After(59 * time.Second)
		require.Empty(t, replays(t, bus), "they have not waited for long enough")
		<-time.After(10 * time.Minute)
		require.Equal(t, []string{"w " + second.String()}, replays(t, bus))

		// The partitions move to the other process. The first one does not replay any more.
		one.Handlers()[0].Released(first.Partition)
		two.Handlers()[0].Assigned(first)
		two.Handlers()[0].Released(second.Partition)
		poisoned(t, bus, "w", to, "stuck: down")
		<-time.After(10 * time.Minute)
		require.ElementsMatch(t, []string{"w " + first.String(), "w " + second.String()}, replays(t, bus))
		require.Equal(t, []any{first, second, first.Partition, first, second.Partition}, told, "the handler's own hooks")
	})
}

// countingBus counts the records of a topic that are read.
type countingBus struct {
	pubsub.Bus
	records map[string]int
}

type countingLog struct {
	pubsub.Log
	topic   string
	records map[string]int
}

func (b countingBus) Log(topic string) pubsub.Log {
	return countingLog{b.Bus.Log(topic), topic, b.records}
}

func (l countingLog) Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error {
	return l.Log.Read(ctx, ranges, func(r pubsub.RawRecord) error {
		l.records[l.topic]++
		return visit(r)
	})
}

func TestEveryRecordOfThePoisonQueueIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := countingBus{memory.NewBus(memory.Config{Partitions: 1}), map[string]int{}}
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group"}
		retrying(t, newRetrier(bus, h))
		for range 3 {
			for range 5000 {
				poisoned(t, bus, "w", 2, "stuck: down")
				poisoned(t, bus, "w", 2, "invalid event")
			}
			<-time.After(10 * time.Minute)
			synctest.Wait()
		}
		require.Equal(t, map[string]int{events.PoisonTopic(events.TopicMessages): 30_000}, bus.records)
	})
}

// The longer a message stays stuck, the more records follow it.
func TestWhatLiesBehindAStuckMessageIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := countingBus{memory.NewBus(memory.Config{Partitions: 2}), map[string]int{}}
		beside := int64(3)
		for events.Partition(events.Direct(1, beside), 2) == events.Partition(events.Direct(1, 2), 2) {
			beside++
		}
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group", Handle: func(_ context.Context, r events.Record) error {
			if r.Type == events.NewMessage && r.Message.Content == "trap" {
				return errors.New("down")
			}
			return nil
		}}
		retrier := newRetrier(bus, h)
		runHandlers(t, bus, retrier.Handlers(), router.Options{StuckAfter: time.Minute})
		retrying(t, retrier)
		trap := newMessage(2, "trap")
		at := publishEvent(t, bus, trap)
		publishEvent(t, bus, &events.Event{
			Type: events.MessageEdited, EventID: "e", Conversation: events.Direct(1, 2), MessageID: trap.Message.MessageID, MessageSeq: at.Seq,
			By: 1, Content: "edited",
		})
		const messages = 3000
		for i := range messages {
			publishEvent(t, bus, newMessage(2, strconv.Itoa(i)))
			publishEvent(t, bus, newMessage(beside, strconv.Itoa(i)))
			<-time.After(time.Second)
		}
		synctest.Wait()
		require.Greater(t, len(entries(t, poison.New(bus, events.TopicMessages))), 10, "it is tried again and again")
		require.Less(t, bus.records[events.TopicMessages], 3*messages, "and not again each time it is tried")
	})
}

// If there are very many stuck entries, only some of them are kept in memory.
func TestAllOfVeryManyStuckRecordsAreTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.Config{Partitions: 1})
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group"}
		const stuck = 25_000
		var at events.Position
		for range stuck {
			at = poisoned(t, bus, "w", 2, "stuck: down")
		}
		r := newRetrier(bus, h)
		r.Handlers()[0].Assigned(at)
		retrying(t, r)
		<-time.After(10 * time.Minute)
		synctest.Wait()
		require.Len(t, replays(t, bus), stuck)
	})
}

// Another process may have replayed or discarded an entry meanwhile.
func TestStuckRecordThatWasDiscardedIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.Config{})
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group"}
		r := newRetrier(bus, h)
		retrying(t, r)
		at := poisoned(t, bus, "w", 2, "stuck: down")
		<-time.After(3 * time.Minute) // the entry is known, but this process does not read its partition yet
		q := poison.New(bus, events.TopicMessages)
		n, err := q.Discard(t.Context(), entries(t, q), poison.Filter{})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		r.Handlers()[0].Assigned(at)
		<-time.After(3 * time.Minute)
		synctest.Wait()
		require.Empty(t, replays(t, bus))
	})
}

// An entry that cannot be replayed must not keep others waiting.
func TestStuckRecordThatCannotBeReplayedDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.Config{Fail: func(topic string, msg *message.Message) error {
			if topic == events.TopicMessages && msg.Metadata.Get(pubsub.KeyHeader) == events.Direct(1, 2) {
				return errors.New("too large")
			}
			return nil
		}})
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group"}
		r := newRetrier(bus, h)
		for to := range int64(6) {
			r.Handlers()[0].Assigned(poisoned(t, bus, "w", to+2, "stuck: down"))
		}
		retrying(t, r)
		<-time.After(5 * time.Minute)
		require.Len(t, replays(t, bus), 5)
	})
}

func TestStuckRecordOfWhichTheOriginalIsGoneIsNotTriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := countingBus{memory.NewBus(memory.Config{Partitions: 1}), map[string]int{}}
		h := events.Handler{Name: "w", Topic: events.TopicMessages, Group: "w-group"}
		r := newRetrier(bus, h)
		msg := message.NewMessage("", []byte(`{"type":`))
		for header, value := range map[string]string{
			router.PoisonPositionHeader: "0:1", router.PoisonHandlerHeader: "w", router.PoisonReasonHeader: "stuck: down",
			router.PoisonValueBytesHeader: "300000", router.PoisonTimeHeader: time.Now().UTC().Format(time.RFC3339),
		} {
			msg.Metadata.Set(header, value)
		}
		require.NoError(t, bus.Publisher().Publish(events.PoisonTopic(events.TopicMessages), msg))
		r.Handlers()[0].Assigned(events.Position{})
		retrying(t, r)
		<-time.After(time.Hour)
		synctest.Wait()
		require.Equal(t, 2, bus.records[events.PoisonTopic(events.TopicMessages)], "noted, and read for one attempt")
		require.Empty(t, replays(t, bus))
		require.Len(t, entries(t, poison.New(bus, events.TopicMessages)), 1, "it stays in the queue")
	})
}

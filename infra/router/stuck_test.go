package router_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

// other returns a user whose conversation with user 1 lies in another of the four partitions than that of users 1 and 2.
func other() int64 {
	to := int64(3)
	for events.Partition(events.Direct(1, to), 4) == events.Partition(events.Direct(1, 2), 4) {
		to++
	}
	return to
}

var errSlow = errors.New("slow")

// The record comes at once, with one behind it, and another partition gets one every second for three minutes.
func TestRecordIsParkedOnceItHasFailedForAMinuteWhileOthersWereHandled(t *testing.T) {
	type work func(since time.Duration) error
	well := func(time.Duration) error { return nil }
	down := func(time.Duration) error { return errDown }
	before := func(limit time.Duration, first, then work) work {
		return func(since time.Duration) error {
			if since < limit {
				return first(since)
			}
			return then(since)
		}
	}
	for name, test := range map[string]struct {
		bad, others work
		reason      string        // empty if it is not parked
		earliest    time.Duration // the earliest time at which the record behind is handled; 0: never
		retries     int
	}{
		"others are well":          {down, well, "stuck: store is down", time.Minute, 0},
		"others are well, in time": {func(time.Duration) error { return context.DeadlineExceeded }, well, "stuck: context deadline exceeded", time.Minute, 0},
		"nobody is well":           {down, down, "", 0, 0},
		"others were well while it had not failed for long": {down, before(50*time.Second, well, down), "", 0, 0},
		"others were not well until later":                  {down, before(100*time.Second, down, well), "stuck: store is down", 100 * time.Second, 0},
		"it is well before long":                            {before(50*time.Second, down, well), well, "", 50 * time.Second, 0},
		"nobody was well for long":                          {before(100*time.Second, down, well), before(100*time.Second, down, well), "", 100 * time.Second, 0},
		"it began to fail for the last time before others were well": {
			before(99*time.Second, down, before(100*time.Second, func(time.Duration) error { return errSlow }, well)),
			before(100*time.Second, down, well), "", 100 * time.Second, -1,
		},
		"cancellation says nothing": {func(time.Duration) error { return context.Canceled }, well, "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := memory.NewBus(memory.Config{})
				start := time.Now()
				var behind journal[time.Duration]
				var handled journal[string]
				poisoned := 0
				opts := router.Options{Retries: test.retries, Observe: func(o router.Observation) {
					if o.Outcome == router.Poisoned {
						poisoned++
					}
				}}
				bad := publishEvent(t, bus, newMessage(2, "bad"))
				publishEvent(t, bus, newMessage(2, "behind"))
				run(t, bus, opts, handler(func(_ context.Context, r events.Record) error {
					switch r.Message.ClientMsgID {
					case "bad":
						err := test.bad(time.Since(start))
						if errors.Is(err, errSlow) {
							<-time.After(4 * time.Second)
						}
						return err
					case "behind":
						behind.add(time.Since(start))
					default:
						if err := test.others(time.Since(start)); err != nil {
							return err
						}
						handled.add(r.Message.ClientMsgID)
					}
					return nil
				}))
				var want []string
				for i := range 180 {
					want = append(want, strconv.Itoa(i))
					publishEvent(t, bus, newMessage(other(), want[i]))
					<-time.After(time.Second)
				}
				if test.others(time.Since(start)) == nil {
					require.Equal(t, want, handled.all())
				}
				if test.earliest == 0 {
					require.Empty(t, behind.all(), "its partition waits")
				} else {
					require.Len(t, behind.all(), 1)
					require.GreaterOrEqual(t, behind.all()[0], test.earliest)
					require.Less(t, behind.all()[0], test.earliest+10*time.Second)
				}
				if test.reason == "" {
					requireNothingPoisoned(t, bus)
					require.Zero(t, poisoned)
					return
				}
				require.Equal(t, 1, poisoned)
				record := poisonQueue(t, bus, 1)[0]
				require.Equal(t, test.reason, record.Metadata.Get(router.PoisonReasonHeader))
				require.Equal(t, bad.String(), record.Metadata.Get(router.PoisonPositionHeader))
				require.Equal(t, "test", record.Metadata.Get(router.PoisonHandlerHeader))
			})
		})
	}
}

// The other records of the bundle are handled, which shows that the cause lies in the one that fails.
func TestRecordOfABundleIsParkedWhenTheRestOfItIsHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.Config{})
		start := time.Now()
		var settled journal[events.Position]
		h := handler(func(context.Context, events.Record) error { return errDown })
		h.HandleBatch = func(context.Context, []events.Record) []error { return []error{errDown, nil} }
		h.Settled = func(p events.Position) { settled.add(p) }
		bad := publishEvent(t, bus, newMessage(2, "bad"))
		publishEvent(t, bus, newMessage(2, "behind"))
		run(t, bus, quick(), h)
		require.Eventually(t, func() bool { return len(settled.all()) == 2 }, time.Hour, time.Second)
		require.GreaterOrEqual(t, time.Since(start), time.Minute)
		require.Equal(t, []events.Position{bad, {Partition: bad.Partition, Seq: bad.Seq + 1}}, settled.all())
		require.Equal(t, bad.String(), poisonQueue(t, bus, 1)[0].Metadata.Get(router.PoisonPositionHeader))
	})
}

func TestRecordIsNotParkedWhileItsPartitionIsTakenAway(t *testing.T) {
	for name, taken := range map[string]bool{"taken away": true, "not taken away": false} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			bad := publishEvent(t, bus, newMessage(2, "bad"))
			begun, fail, released := make(chan struct{}), make(chan struct{}), make(chan struct{})
			h := handler(func(_ context.Context, r events.Record) error {
				if r.Message.ClientMsgID != "bad" {
					return nil
				}
				begun <- struct{}{}
				<-fail
				return errDown
			})
			h.Released = func(partition int32) {
				if partition == bad.Partition {
					close(released)
				}
			}
			stop := run(t, bus, router.Options{Retries: -1, StuckAfter: time.Nanosecond}, h)
			<-begun
			fail <- struct{}{}
			<-begun
			elsewhere := publishEvent(t, bus, newMessage(other(), "good"))
			require.Eventually(t, func() bool { // once it is committed, it counts as handled
				committed, err := bus.Log(events.TopicMessages).Committed(t.Context(), "test-group")
				return err == nil && committed[elsewhere.Partition] == elsewhere.Seq
			}, patience, time.Millisecond)
			fail <- struct{}{}
			<-begun // the first delivery that began after another record had been handled
			if !taken {
				fail <- struct{}{}
				poisonQueue(t, bus, 1)
				return
			}
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				stop()
			}()
			<-released // the context of the delivery is done
			fail <- struct{}{}
			<-stopped
			requireNothingPoisoned(t, bus)
		})
	}
}

func TestReplayIsParkedAgainWithoutPatience(t *testing.T) {
	for name, fails := range map[string]bool{"others are well": false, "nobody is well": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := memory.NewBus(memory.Config{})
				original := publishEvent(t, bus, newMessage(2, "a"), router.ReplayHandlerHeader, "nobody")
				publishEvent(t, bus, newMessage(2, "a"),
					router.ReplayHandlerHeader, "test", router.ReplayPositionHeader, original.String())
				run(t, bus, quick(), handler(func(_ context.Context, r events.Record) error {
					if fails || r.Message.ClientMsgID == "a" {
						return errDown
					}
					return nil
				}))
				<-time.After(time.Second)
				publishEvent(t, bus, newMessage(other(), "good"))
				<-time.After(time.Second)
				if fails {
					requireNothingPoisoned(t, bus)
					return
				}
				record := poisonQueue(t, bus, 1)[0]
				require.Equal(t, original.String(), record.Metadata.Get(router.PoisonPositionHeader))
				require.NotContains(t, record.Metadata, router.ReplayHandlerHeader)
			})
		})
	}
}

// If the poison queue cannot be reached, the record stays where it is.
func TestRecordThatCannotBeParkedComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		bus := memory.NewBus(memory.Config{Fail: func(topic string, _ *message.Message) error {
			if full.Load() && topic == events.PoisonTopic(events.TopicMessages) {
				return errDown
			}
			return nil
		}})
		publishEvent(t, bus, newMessage(2, "bad"))
		var attempts atomic.Int32
		run(t, bus, router.Options{}, handler(func(_ context.Context, r events.Record) error {
			if r.Message.ClientMsgID == "bad" {
				attempts.Add(1)
				return errDown
			}
			return nil
		}))
		<-time.After(2 * time.Minute)
		publishEvent(t, bus, newMessage(other(), "good"))
		<-time.After(time.Minute)
		requireNothingPoisoned(t, bus)
		full.Store(false)
		<-time.After(time.Minute)
		require.Equal(t, "stuck: store is down", poisonQueue(t, bus, 1)[0].Metadata.Get(router.PoisonReasonHeader))
		then := attempts.Load()
		<-time.After(time.Minute)
		require.Equal(t, then, attempts.Load())
	})
}

package router_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
)

// The test runs over both buses, whose messages stand for many records each.
func TestMiddlewareOfOnesOwnSeesEveryRecordByItself(t *testing.T) {
	for name, open := range map[string]func(*testing.T) pubsub.Bus{
		"memory": func(*testing.T) pubsub.Bus { return memory.NewBus(memory.Config{Partitions: 4}) },
		"kafka":  func(t *testing.T) pubsub.Bus { return overKafka(t) },
	} {
		t.Run(name, func(t *testing.T) {
			bus := open(t)
			var want []string
			for i := range 20 {
				want = append(want, strconv.Itoa(i))
				publishEvent(t, bus, newMessage(2, want[i]), "region", "north")
			}
			var seen, handled journal[string]
			var settled journal[events.Position]
			own := func(next message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) {
					pos, err := bus.Position(msg)
					require.NoError(t, err)
					e, err := events.Decode(events.TopicMessages, pos, msg.Payload)
					require.NoError(t, err)
					require.Equal(t, "north", msg.Metadata.Get("region"))
					require.Equal(t, "test", message.HandlerNameFromCtx(msg.Context()), "it is Watermill's own message")
					seen.add(e.Message.ClientMsgID)
					return next(msg)
				}
			}
			opts := quick()
			opts.Middleware = []message.HandlerMiddleware{own, middleware.Duplicator}
			h := handler(func(_ context.Context, r events.Record) error {
				handled.add(r.Message.ClientMsgID)
				return nil
			})
			h.HandleBatch = func(context.Context, []events.Record) []error { panic("past the middleware") }
			h.Settled = func(p events.Position) { settled.add(p) }
			run(t, bus, opts, h)
			requireAllCommitted(t, bus)
			require.Equal(t, want, seen.all())
			var twice []string
			for _, id := range want {
				twice = append(twice, id, id)
			}
			require.Equal(t, twice, handled.all(), "Watermill's Duplicator has each handled again")
			require.Len(t, settled.all(), len(want))
		})
	}
}

// Whatever the user's middleware does, nothing is lost and nobody waits.
func TestWhatMiddlewareReturnsIsTheHandlers(t *testing.T) {
	for name, test := range map[string]struct {
		own      func(attempt int, next func() error) error
		poisoned string
		handled  []string
		outcome  router.Outcome
	}{
		"an error that passes": {func(attempt int, next func() error) error {
			if attempt < 3 {
				return errDown
			}
			return next()
		}, "", []string{"first", "second"}, router.Handled},
		"a permanent error": {func(int, func() error) error {
			return events.Permanent(errors.New("not wanted"))
		}, "not wanted", []string{"second"}, router.Poisoned},
		"a panic": {func(int, func() error) error { panic("at the disco") }, "panic: at the disco", []string{"second"}, router.Poisoned},
		"the rest fails": {func(attempt int, next func() error) error {
			if err := next(); err != nil || attempt > 1 {
				return err
			}
			return errDown
		}, "", []string{"first", "first", "second"}, router.Handled},
	} {
		t.Run(name, func(t *testing.T) {
			bus := memory.NewBus(memory.Config{})
			publishEvent(t, bus, newMessage(2, "first"))
			publishEvent(t, bus, newMessage(2, "second"))
			var handled journal[string]
			var outcomes journal[router.Outcome]
			opts := quick()
			opts.Observe = func(o router.Observation) { outcomes.add(o.Outcome) }
			attempts := 0
			opts.Middleware = []message.HandlerMiddleware{func(next message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) {
					rest := func() error {
						_, err := next(msg)
						return err
					}
					if pos, err := bus.Position(msg); err != nil || pos.Seq > 1 {
						return nil, errors.Join(err, rest())
					}
					attempts++
					return nil, test.own(attempts, rest)
				}
			}}
			run(t, bus, opts, handler(func(_ context.Context, r events.Record) error {
				handled.add(r.Message.ClientMsgID)
				return nil
			}))
			requireAllCommitted(t, bus)
			require.Equal(t, test.handled, handled.all())
			require.Equal(t, []router.Outcome{test.outcome, router.Handled}, outcomes.all())
			if test.poisoned == "" {
				requireNothingPoisoned(t, bus)
				return
			}
			require.Equal(t, test.poisoned, poisonQueue(t, bus, 1)[0].Metadata.Get(router.PoisonReasonHeader))
		})
	}
}

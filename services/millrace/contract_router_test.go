package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/handlertest"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
	"millrace/services/millrace/proof"
)

// underRouter runs a subject's handler over a bus whose log begins with records that no handler knows, up to handlertest.Begin.
type underRouter struct {
	subject handlertest.Subject
	bus     *memory.Bus
	last    int64         // seq of the last record that was published
	refuses *atomic.Int64 // seq that the handler refuses for good; 0 is none
	halts   *atomic.Int64 // seq from which on the handler fails; 0 is none
	failed  *atomic.Int64 // how often it has failed so
}

// runUnderTheRouter publishes good records, garbage, repeats and records that the handler cannot handle at first. The handler
// fails at times, also in the middle of a batch, and its process ends in between. In the end every good record has taken
// effect once and in order, and the others are in the poison queue. From there a replay takes effect, or it is refused.
func runUnderTheRouter(t *testing.T, s handlertest.Subject) {
	u := &underRouter{s, memory.NewBus(memory.Config{Partitions: events.DefaultPartitions}), 0, new(atomic.Int64), new(atomic.Int64), new(atomic.Int64)}
	for range handlertest.Begin {
		u.publish(t, []byte(`{"type":"of_the_future"}`))
	}
	var good []int64
	const records = 100
	for i := range records {
		switch {
		case i%40 == 7:
			u.publish(t, []byte("garbage"))
		case i%10 == 3:
			u.publishEvent(t, good[len(good)-2]) // a repeat
		default:
			good = append(good, u.publishEvent(t, u.last+1))
		}
	}
	u.halts.Store(handlertest.Begin + records/2)
	stop := u.run(t)
	require.Eventually(t, func() bool { return u.failed.Load() > 0 }, proof.Patience, time.Millisecond)
	u.subject.Done(t) // so that an observer of what is pushed has seen all of it
	stop()
	u.halts.Store(0)
	u.subject = u.subject.TakeOver(t)
	stop = u.run(t)
	u.settle(t)
	require.Equal(t, good, u.subject.Done(t))
	queue := poison.New(u.bus, u.subject.Handler.Topic)
	entries, err := queue.Entries(t.Context())
	require.NoError(t, err)
	require.Len(t, entries, 3)

	refused := u.last + 1
	u.refuses.Store(refused)
	good = append(good, u.publishEvent(t, refused), u.publishEvent(t, refused+1))
	u.settle(t)
	require.NotContains(t, u.subject.Done(t), refused)
	u.refuses.Store(0)
	entries, err = queue.Entries(t.Context())
	require.NoError(t, err)
	entry := entries[len(entries)-1]
	require.Contains(t, entry.Reason, "refused for good")
	name := u.subject.Handler.Name
	done, err := queue.Replay(t.Context(), entries, poison.Filter{IDs: []string{entry.ID}, NoReplay: handlers.NoReplay()}, 0)
	require.NoError(t, err)
	u.settle(t)
	if _, refuses := handlers.NoReplay()[name]; refuses {
		require.Equal(t, poison.Replayed{Refused: map[string][]string{name: {entry.ID}}}, done)
		require.False(t, entry.Replayed)
		require.NotContains(t, u.subject.Done(t), refused)
	} else {
		require.Equal(t, 1, done.ToHandlers)
		effect := u.subject.Done(t)
		slices.Sort(effect)
		require.Equal(t, good, effect)
	}
	stop()
}

// publish publishes the value into the partition of the suite.
func (u *underRouter) publish(t *testing.T, value []byte) {
	t.Helper()
	msg := message.NewMessage("", value)
	maps.Copy(msg.Metadata, u.subject.Headers)
	msg.Metadata.Set(pubsub.KeyHeader, handlertest.Conversation())
	require.NoError(t, u.bus.Publisher().Publish(u.subject.Handler.Topic, msg))
	u.last++
}

// publishEvent publishes the event of the record with the seq, and returns the seq that it got.
func (u *underRouter) publishEvent(t *testing.T, seq int64) int64 {
	t.Helper()
	event := u.subject.Event(seq)
	value, err := events.Encode(&event)
	require.NoError(t, err)
	u.publish(t, value)
	return u.last
}

func (u *underRouter) committed(t *testing.T) int64 {
	t.Helper()
	committed, err := u.bus.Log(u.subject.Handler.Topic).Committed(t.Context(), u.subject.Handler.Group)
	require.NoError(t, err)
	return committed[handlertest.Partition()]
}

// settle waits until the handler is done with everything in the log.
func (u *underRouter) settle(t *testing.T) {
	t.Helper()
	end, err := u.bus.Log(u.subject.Handler.Topic).End(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return u.committed(t) == end[handlertest.Partition()] }, proof.Patience, time.Millisecond)
}

// run runs the handler until the function that it returns is called.
func (u *underRouter) run(t *testing.T) (stop func()) {
	t.Helper()
	r, err := router.New(u.bus, []events.Handler{u.unsteady(u.subject.Handler)}, router.Options{RetryPause: time.Millisecond}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	return func() {
		assert.NoError(t, r.Close())
		assert.NoError(t, <-ended)
	}
}

// unsteady returns the handler with failures of every third call. Of a batch it fails all records from one on, as a store that
// goes away does.
func (u *underRouter) unsteady(h events.Handler) events.Handler {
	away := errors.New("away")
	handle, handleBatch := h.Handle, h.HandleBatch
	h.Handle = func(ctx context.Context, r events.Record) error {
		switch {
		case u.halted(r):
			u.failed.Add(1)
			return away
		case r.Seq == u.refuses.Load():
			return events.Permanent(fmt.Errorf("%d is refused for good", r.Seq))
		case rand.N(3) == 0:
			return away
		}
		return handle(ctx, r)
	}
	if handleBatch == nil {
		return h
	}
	h.HandleBatch = func(ctx context.Context, records []events.Record) []error {
		n := len(records)
		if rand.N(3) == 0 {
			n = rand.N(n)
		}
		if i := slices.IndexFunc(records, func(r events.Record) bool { return r.Seq == u.refuses.Load() || u.halted(r) }); i >= 0 {
			n = min(n, i)
		}
		var errs []error
		if n > 0 {
			errs = handleBatch(ctx, records[:n])
		}
		return slices.Concat(errs, slices.Repeat([]error{away}, len(records)-n))
	}
	return h
}

func (u *underRouter) halted(r events.Record) bool {
	from := u.halts.Load()
	return from > 0 && r.Seq >= from
}

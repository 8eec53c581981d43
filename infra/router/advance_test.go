package router_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
)

// The handler notes once for all records that are passed together how far it has come, also past those that it does not get, and
// before all of them are acknowledged.
func TestHandlerNotesHowFarItHasComeBeforeThatIsCommitted(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var noted journal[events.Position]
	h := handler(func(context.Context, events.Record) error { return nil })
	h.Types = []events.Type{events.MemberJoined}
	var failed atomic.Bool
	h.Advance = func(ctx context.Context, done events.Position) error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("the store is down")
		}
		committed, err := bus.Log(h.Topic).Committed(ctx, h.Group)
		assert.NoError(t, err)
		assert.Less(t, committed[done.Partition], done.Seq)
		noted.add(done)
		return nil
	}
	joined := events.Event{Type: events.MemberJoined, EventID: "j", Conversation: "g:7", GroupID: 7, User: 2, By: 1, Timestamp: 1}
	left := joined
	left.Type, left.EventID = events.MemberLeft, "l"
	run(t, bus, quick(), h)
	publishEvent(t, bus, &joined) // the note of this one fails
	require.Eventually(t, failed.Load, patience, time.Millisecond)
	var last events.Position
	for range 2 {
		publishEvent(t, bus, &joined)
		last = publishEvent(t, bus, &left)
	}
	require.Eventually(t, func() bool { return slices.Contains(noted.all(), last) }, patience, time.Millisecond)
	requireAllCommitted(t, bus)
	all := noted.all()
	require.True(t, slices.IsSortedFunc(all, func(x, y events.Position) int { return cmp.Compare(x.Seq, y.Seq) }))
	requireNothingPoisoned(t, bus)
}

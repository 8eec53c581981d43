package router_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	"millrace/infra/router"
	"millrace/infra/router/markstest"
)

func TestMarksInMemory(t *testing.T) {
	markstest.Run(t, func(*testing.T) router.Marks { return router.NewMarks(1000) })
}

func TestMarksAreBounded(t *testing.T) {
	marks := router.NewMarks(2)
	for i := range 3 {
		marks.Mark(t.Context(), router.Mark{EventID: strconv.Itoa(i), At: events.Position{Seq: int64(i + 1)}})
	}
	require.Equal(t, []events.Position{{}, {Seq: 3}}, marks.Marked(t.Context(), "0", "2"))
}

// The last owner of a partition had its marks in its own memory. The next one recognises what that one handled all the same.
func TestRepeatIsRecognisedByWhoTakesThePartitionOver(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	var handled journal[string]
	h := handler(func(_ context.Context, r events.Record) error {
		handled.add(r.Message.ClientMsgID)
		return nil
	})
	publishEvent(t, bus, newMessage(2, "a"))
	publishEvent(t, bus, newMessage(2, "b"))
	stop := run(t, bus, quick(), h)
	requireAllCommitted(t, bus)
	stop()
	publishEvent(t, bus, newMessage(2, "a"))
	publishEvent(t, bus, newMessage(2, "c"))
	run(t, bus, quick(), h)
	requireAllCommitted(t, bus)
	require.Equal(t, []string{"a", "b", "c"}, handled.all())
}

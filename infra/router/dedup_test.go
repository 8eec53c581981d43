package router_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
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

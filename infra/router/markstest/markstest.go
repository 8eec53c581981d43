// Package markstest tests what every implementation of [router.Marks] must do.
package markstest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/router"
)

// Run runs the suite. Every test gets from newMarks the marks of a handler that nobody has used yet.
func Run(t *testing.T, newMarks func(t *testing.T) router.Marks) {
	at := func(seq int64) events.Position { return events.Position{Partition: 7, Seq: seq} }

	t.Run("AnswersComeInTheOrderAskedFor", func(t *testing.T) {
		marks := newMarks(t)
		marks.Mark(t.Context(), router.Mark{EventID: "a", At: at(1)}, router.Mark{EventID: "b", At: at(1 << 52)})
		require.Equal(t, []events.Position{at(1 << 52), {}, at(1)}, marks.Marked(t.Context(), "b", "unknown", "a"))
		require.Empty(t, marks.Marked(t.Context()))
	})
	t.Run("TheLatestMarkOfAnEventCounts", func(t *testing.T) {
		marks := newMarks(t)
		marks.Mark(t.Context(), router.Mark{EventID: "a", At: at(1)})
		marks.Mark(t.Context(), router.Mark{EventID: "a", At: at(2)})
		marks.Mark(t.Context())
		require.Equal(t, []events.Position{at(2)}, marks.Marked(t.Context(), "a"))
	})
	t.Run("ManyAtOnce", func(t *testing.T) {
		marks := newMarks(t)
		var all []router.Mark
		var ids []string
		var want []events.Position
		for i := range 128 {
			m := router.Mark{EventID: fmt.Sprint("event ", i), At: at(int64(i + 1))}
			all, ids, want = append(all, m), append(ids, m.EventID), append(want, m.At)
		}
		marks.Mark(t.Context(), all...)
		require.Equal(t, want, marks.Marked(t.Context(), ids...))
	})
}

package admission_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/admission"
)

func TestMessageStandsUnlessItIsRefusedRepeatedOrRecalled(t *testing.T) {
	w := newWorld(t, 1)
	w.publish(t, said(1, 2, "one"))
	w.publish(t, said(1, 2, "two"))
	w.publish(t, said(1, 2, "one")) // a repeat
	w.publish(t, w.edit(1, &w.log[1]))
	w.publish(t, w.edit(2, &w.log[1])) // forged
	w.publish(t, said(3, 0, "a stranger to the group"))
	recall := w.edit(1, &w.log[1])
	recall.Type, recall.Content = events.MessageRecalled, ""
	w.publish(t, recall)
	w.publish(t, w.edit(1, &w.log[1]))

	for _, c := range []struct {
		record          int
		stands, ifAhead bool // with a store that has what lies before the record, and with one that has everything
	}{{0, true, true}, {1, true, false}, {2, false, false}, {3, true, false}, {4, false, false}, {5, false, false}, {7, false, false}} {
		for stored, want := range map[int]bool{c.record: c.stands, len(w.log): c.ifAhead} {
			t.Run(fmt.Sprint(c.record, " of ", stored), func(t *testing.T) {
				other := newWorld(t, 1)
				other.lagging.SaveBatch(t.Context(), w.log[:stored])
				judge, err := admission.New(other.lagging, w.bus.Log(events.TopicMessages))
				require.NoError(t, err)
				tracks := admission.NewTracks(judge)
				tracks.Assigned(events.Position{})
				for i := range w.log[:c.record] {
					tracks.Admits(t.Context(), &w.log[i])
				}
				require.Equal(t, want, tracks.Stands(t.Context(), &w.log[c.record]))
			})
		}
	}

	judge, err := admission.New(downStore{}, w.bus.Log(events.TopicMessages))
	require.NoError(t, err)
	require.True(t, judge.Follow(events.Position{}).Stands(t.Context(), &w.log[0]), "nobody can say")
}

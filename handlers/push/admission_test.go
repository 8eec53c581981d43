package push

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

// refusing is an admission that refuses the records with the seqs in refused.
type refusing struct {
	admitAll
	refused map[int64]bool // by seq
	asked   []int64
}

func (a *refusing) Admits(_ context.Context, r *events.Record) bool {
	a.asked = append(a.asked, r.Seq)
	return !a.refused[r.Seq]
}

func TestWhatStorageRefusesIsCoveredButNotShown(t *testing.T) {
	n := newNodeWith(t, Options{}, &refusing{refused: map[int64]bool{12: true}})
	n.handler.Assigned(events.Position{Partition: 3, Seq: 10})
	a := n.attach(t, "a", events.UserChannel(1))
	n.say(t, 3, 11, 2, "one")
	n.say(t, 3, 12, 2, "refused")
	n.say(t, 3, 13, 2, "three")
	require.EqualValues(t, 11, a.nextDelivery().GetSeq())
	require.EqualValues(t, 13, a.nextDelivery().GetSeq(), "the span of the next one covers it")
}

func TestRecordsThatNobodyWantsAreJudgedOnlyIfOthersDependOnThem(t *testing.T) {
	admission := &refusing{}
	n := newNodeWith(t, Options{}, admission)
	n.handler.Assigned(events.Position{Partition: 3, Seq: 10})
	n.attach(t, "a", events.UserChannel(9))
	n.say(t, 3, 11, 2, "unheard")
	require.NoError(t, n.handler.Handle(t.Context(), eventAt(12, events.MessageEdited)))
	require.Empty(t, admission.asked)
	for seq, kind := range []events.Type{
		events.MessageRecalled, events.MessageRead, events.GroupCreated, events.MemberJoined, events.MemberLeft, events.GroupDissolved,
	} {
		require.NoError(t, n.handler.Handle(t.Context(), eventAt(int64(20+seq), kind)))
	}
	require.Equal(t, []int64{20, 21, 22, 23, 24, 25}, admission.asked)
}

func eventAt(seq int64, kind events.Type) events.Record {
	return events.Record{Position: events.Position{Partition: 3, Seq: seq}, Event: events.Event{
		Type: kind, Conversation: events.Group(1), GroupID: 1, User: 1, By: 1,
	}}
}

package groups_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/handlers/groups"
	"millrace/handlers/route"
)

// judge refuses the records with the seqs in refused.
type judge struct {
	refused map[int64]bool
	asked   []int64
}

func (*judge) Assigned(events.Position) {}
func (*judge) Released(int32)           {}

func (j *judge) Admits(_ context.Context, r *events.Record) bool {
	j.asked = append(j.asked, r.Seq)
	return !j.refused[r.Seq]
}

// topic takes so many copies more; 0: all.
type topic struct {
	t      *testing.T
	copies []route.Copy
	takes  int
}

var errAway = errors.New("no brokers")

func (p *topic) PublishCopies(_ context.Context, topic string, copies []route.Copy) (int, error) {
	require.Equal(p.t, events.TopicGroups, topic)
	if p.takes > 0 && p.takes < len(copies) {
		p.copies = append(p.copies, copies[:p.takes]...)
		return p.takes, errAway
	}
	p.copies = append(p.copies, copies...)
	return len(copies), nil
}

func (p *topic) origins() []string {
	var origins []string
	for _, c := range p.copies {
		origins = append(origins, c.Headers[events.OriginHeader])
	}
	return origins
}

func record(seq int64, kind events.Type) events.Record {
	return events.Record{
		Event:    events.Event{Type: kind, EventID: "e", Conversation: "g:7", GroupID: 7, User: 1, By: 1},
		Position: events.Position{Partition: 3, Seq: seq}, Value: []byte("value"), Headers: events.HeaderMap{"region": "eu"},
	}
}

func TestEveryChangeOfAGroupThatStorageTakesIsCopiedWithItsOrigin(t *testing.T) {
	to, j := &topic{t: t}, &judge{refused: map[int64]bool{15: true}}
	h := groups.Handler(j, to)
	var records []events.Record
	for i, kind := range h.Types {
		require.True(t, kind.On(events.TopicGroups))
		records = append(records, record(int64(10+i), kind))
	}
	for _, err := range h.HandleBatch(t.Context(), records) {
		require.NoError(t, err)
	}
	require.Equal(t, []string{"3:10", "3:11", "3:12", "3:13", "3:14", "3:16"}, to.origins())
	require.Equal(t, []int64{10, 11, 12, 13, 14, 15, 16}, j.asked)
	require.Equal(t, route.Copy{
		ID: "e", Key: "g:7", Value: []byte("value"), Headers: map[string]string{"region": "eu", events.OriginHeader: "3:10"},
	}, to.copies[0])
	require.NotContains(t, records[0].Headers, events.OriginHeader, "the record is others' too")
}

func TestAfterACopyHasFailedNoneBehindItIsMadeAndTheyComeAgain(t *testing.T) {
	to := &topic{t: t, takes: 1}
	h := groups.Handler(&judge{}, to)
	records := []events.Record{record(10, events.MemberJoined), record(11, events.MemberLeft), record(12, events.MemberJoined)}
	errs := h.HandleBatch(t.Context(), records)
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], errAway)
	require.False(t, events.IsPermanent(errs[1]))
	require.ErrorIs(t, errs[2], errAway)
	to.takes = 0
	require.NoError(t, h.Handle(t.Context(), records[1]))
	require.NoError(t, h.Handle(t.Context(), records[2]))
	require.Equal(t, []string{"3:10", "3:11", "3:12"}, to.origins())
}

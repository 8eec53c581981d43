package admission_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/admission"
)

func TestReadMarkThatDoesNotAdvanceIsNotShown(t *testing.T) {
	judge, err := admission.New(downStore{}, nil)
	require.NoError(t, err)
	track := judge.Follow(events.Position{})
	for _, c := range []struct {
		at, user, seq int64
		admitted      bool
	}{
		{10, 1, 7, true},
		{11, 1, 5, false},
		{12, 1, 7, false},
		{10, 1, 7, true}, // delivered again
		{13, 2, 5, true},
		{14, 1, 8, true},
		{15, 1, 7, false},
	} {
		r := events.Record{Position: events.Position{Seq: c.at}, Event: events.Event{
			Type: events.MessageRead, Conversation: "u:1:2", User: c.user, MessageSeq: c.seq,
		}}
		require.Equal(t, c.admitted, track.Admits(t.Context(), &r), "%+v", c)
	}
}

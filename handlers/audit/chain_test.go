package audit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The lines were written once and for all: a log that goes on for years must be verified by any version.
func TestLinesAndTheirHashesAreByContract(t *testing.T) {
	r := record(3, 7)
	r.Message.MessageID = "<m>"
	l := newLinks()
	l.after(chain{number: 41, hash: "ab"})
	require.NoError(t, l.add(newMessageEntry(&r)))
	r.Seq, r.Replay = 8, true
	require.NoError(t, l.add(newMessageEntry(&r)))
	require.Equal(t, `{"when":1642678800,"who":1,"type":"new_message","conversation":"u:1:2","message_id":"\u003cm\u003e","partition":3,"seq":7,"n":42,"hash":"1e4461d51df5a51f580adafc38c8e81b24070ba36efee3be381bbc9568e1f174"}`+"\n"+
		`{"when":1642678800,"who":1,"type":"new_message","conversation":"u:1:2","message_id":"\u003cm\u003e","partition":3,"seq":8,"replayed":true,"n":43,"hash":"14d9987d91b205ea19bb55d246811a711508bb44681a242cd7025902e7922dc7"}`+"\n", l.text.String())
	require.EqualValues(t, 43, l.end.number)
}

func TestValueThatIsNoJSONAddsNothing(t *testing.T) {
	l := newLinks()
	r := record(3, 7)
	require.NoError(t, l.add(newMessageEntry(&r)))
	before, end := l.text.String(), l.end
	require.Error(t, l.add(func() {}))
	require.Equal(t, before, l.text.String())
	require.Equal(t, end, l.end)
}

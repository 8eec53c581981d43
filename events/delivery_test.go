package events

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadMarkIsShownNoFurtherThanWhereItStandsItself(t *testing.T) {
	for seq, want := range map[int64]string{7: `"seq":7`, 1000: `"seq":9`} {
		d, err := DeliveryOf(&Record{Position: Position{Seq: 9}, Event: Event{
			Type: MessageRead, Conversation: "u:1:2", User: 1, MessageSeq: seq,
		}})
		require.NoError(t, err)
		require.Contains(t, string(d.GetPush()), want)
	}
}

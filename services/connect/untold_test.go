package connect

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPartitionsThatStallAreReadAndWhileANodeIsNotAttachedAllAre(t *testing.T) {
	turns := func(n int) (turns []turn) {
		for i := range int64(n) {
			turns = append(turns, turn{end: map[int32]int64{0: 10 + i, 1: 20 + i}, covered: map[int32]int64{0: 5, 1: 15 + i}})
		}
		return turns
	}
	now := map[int32]int64{0: 5, 1: 30}
	for name, tt := range map[string]struct {
		turns int
		apart bool
		want  map[int32]int64
	}{
		"apart, nothing is known": {0, true, nil},
		"apart":                   {2, true, map[int32]int64{0: 11, 1: 21}},
		"too early to tell":       {stalledTurns - 1, false, nil},
		"one stalls":              {stalledTurns, false, map[int32]int64{0: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, untold(turns(tt.turns), now, tt.apart))
		})
	}
}

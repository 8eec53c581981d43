package events

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// cutTwice returns the epochs of a topic that was made anew once and whose partition 3 was then cut at 100 and at 90.
func cutTwice() *Epochs {
	return &Epochs{First: 1, Cuts: []Cut{{Partition: 3, Epoch: 2, Offset: 100}, {Partition: 5, Epoch: 2, Offset: 7}, {Partition: 3, Epoch: 3, Offset: 90}}}
}

func TestRecordsBehindACutHaveALaterEpoch(t *testing.T) {
	e := cutTwice()
	for _, c := range []struct {
		partition     int32
		offset, epoch int64
	}{{3, 0, 1}, {3, 89, 1}, {3, 90, 3}, {3, 120, 3}, {4, 120, 1}, {5, 6, 1}, {5, 7, 2}} {
		require.Equal(t, Position{c.partition, Seq(c.epoch, c.offset)}, e.Position(c.partition, c.offset))
	}
	require.EqualValues(t, 3, e.Latest(3))
	require.EqualValues(t, 1, e.Latest(4))
}

func TestWhoHasDoneAllUpToAPositionGoesOnBehindWhatWasLost(t *testing.T) {
	e := cutTwice()
	for name, c := range map[string]struct{ after, next int64 }{
		"nothing done":                   {0, 0},
		"of the topic before":            {Seq(0, 500), 0},
		"before the cut":                 {Seq(1, 50), 51},
		"lost by the cut":                {Seq(1, 200), 90},
		"lost by the cut before":         {Seq(2, 110), 90},
		"right before the cut":           {Seq(1, 89), 90},
		"right before the latest epoch":  {Seq(3, 89), 90},
		"in the latest epoch":            {Seq(3, 95), 96},
		"of an epoch that is not known":  {Seq(9, 95), 96},
		"where the topic begins":         {Seq(1, -1), 0},
		"of a cut that was cut off anew": {Seq(2, 99), 90},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.next, e.Next(Position{3, c.after}))
			current := e.Current(Position{3, c.after})
			require.Equal(t, e.Position(3, c.next).Seq-1, current.Seq)
			require.Equal(t, c.next, e.Next(current))
		})
	}
}

func TestPositionsAscendWithOffsetsAndLeadBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		e := &Epochs{First: random.Int64N(3)}
		for range random.IntN(4) {
			e.Cuts = append(e.Cuts, Cut{Epoch: e.Latest(0) + 1, Offset: random.Int64N(30)})
		}
		last := int64(-1)
		for offset := range int64(40) {
			p := e.Position(0, offset)
			require.Greater(t, p.Seq, last)
			require.Equal(t, offset, Offset(p.Seq))
			require.Equal(t, offset+1, e.Next(p), "%+v", e)
			last = p.Seq
		}
	}
	var none *Epochs
	require.Equal(t, Position{2, 8}, none.Position(2, 7))
	require.EqualValues(t, 8, none.Next(Position{2, 8}))
}

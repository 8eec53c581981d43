package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func TestEpochRisesWhereTheNextRecordWouldGetAPositionThatWasGiven(t *testing.T) {
	kept := events.Epochs{TopicID: "id", First: 1, Version: 3}
	cut := func(epoch, offset int64) []events.Cut {
		return []events.Cut{{Partition: 2, Epoch: epoch, Offset: offset}}
	}
	for name, c := range map[string]struct {
		id      string
		kept    events.Epochs
		next    int64 // of partition 2
		know    func(v *verdict)
		lowest  int64
		epochs  events.Epochs // without version; zero: as kept
		lost    int64
		unknown bool
	}{
		"all is stored":           {next: 10, know: func(v *verdict) { v.positions(map[int32]int64{2: events.Seq(1, 9)}) }},
		"nothing is stored":       {next: 10},
		"the store has more":      {next: 7, know: func(v *verdict) { v.positions(map[int32]int64{2: events.Seq(1, 9)}) }, epochs: events.Epochs{First: 1, Cuts: cut(2, 7)}, lost: 3},
		"it ended later before":   {next: 7, know: func(v *verdict) { v.ends(&kept, map[int32]int64{2: 8}) }, epochs: events.Epochs{First: 1, Cuts: cut(2, 7)}, lost: 1},
		"a group committed more":  {next: 7, know: func(v *verdict) { v.commits(map[int32][]commit{2: {{next: 9, topicID: "id", epoch: 1}}}) }, epochs: events.Epochs{First: 1, Cuts: cut(2, 7)}, lost: 2},
		"another program's group": {next: 7, know: func(v *verdict) { v.commits(map[int32][]commit{2: {{next: 9}}}) }, epochs: events.Epochs{First: 1, Cuts: cut(2, 7)}, lost: 2},
		"it grew again before it was noticed": {
			next: 12, lowest: 7, know: func(v *verdict) { v.ends(&kept, map[int32]int64{2: 9}) },
			epochs: events.Epochs{First: 1, Cuts: cut(2, 7)}, lost: 2,
		},
		"the cut is known": {
			kept: events.Epochs{TopicID: "id", First: 1, Cuts: cut(2, 7)}, next: 7,
			know: func(v *verdict) { v.positions(map[int32]int64{2: events.Seq(1, 9)}) },
		},
		"it is cut below a cut": {
			kept: events.Epochs{TopicID: "id", First: 1, Cuts: cut(2, 7)}, next: 5,
			know:   func(v *verdict) { v.positions(map[int32]int64{2: events.Seq(2, 8)}) },
			epochs: events.Epochs{First: 1, Cuts: append(cut(2, 7), cut(3, 5)...)}, lost: 4,
		},
		"the topic was made anew": {
			id: "other", kept: events.Epochs{TopicID: "id", First: 1, Cuts: cut(2, 7)}, next: 0,
			know:   func(v *verdict) { v.positions(map[int32]int64{2: events.Seq(2, 8)}) },
			epochs: events.Epochs{First: 3},
		},
		"the store was put back from before it knew of the epoch": {
			id: "other", next: 0, know: func(v *verdict) { v.positions(map[int32]int64{2: events.Seq(4, 8)}) },
			epochs: events.Epochs{First: 5},
		},
		"the store is new": {
			unknown: true, next: 20, know: func(v *verdict) {
				v.commits(map[int32][]commit{2: {{next: 9, topicID: "id", epoch: 3, begin: 4}}, 1: {{next: 5, topicID: "before", epoch: 1}}})
			},
			epochs: events.Epochs{First: 2, Cuts: cut(3, 4)},
		},
		"the store is new and the log as well": {unknown: true, next: 0, epochs: events.Epochs{TopicID: "id"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.kept.TopicID == "" && !c.unknown {
				c.kept = kept
			}
			if c.id == "" {
				c.id = "id"
			}
			v := newVerdict(c.kept, c.id)
			if c.know != nil {
				c.know(&v)
			}
			v.judge(map[int32]int64{2: c.next}, func(int32) (int64, bool) { return c.lowest, c.lowest > 0 })
			want := c.epochs
			if want.First == 0 && want.TopicID == "" {
				want = c.kept
			}
			want.TopicID, want.Version = c.id, v.epochs.Version
			require.Equal(t, want, v.epochs)
			require.Equal(t, c.lost, v.lost)
			require.Equal(t, c.epochs.First != 0 || c.epochs.TopicID != "", v.changed)
		})
	}
}

func TestCommitKnowsOfWhichTopicAndEpochItIs(t *testing.T) {
	e := &events.Epochs{TopicID: "id", First: 1, Cuts: []events.Cut{{Partition: 2, Epoch: 2, Offset: 10}}}
	for metadata, next := range map[string]int64{
		commitMetadata(e, 2, 8):  8,
		commitMetadata(e, 2, 20): 20,
		commitMetadata(&events.Epochs{TopicID: "id", First: 1}, 2, 20): 10,
		commitMetadata(&events.Epochs{TopicID: "before"}, 2, 20):       0,
		"":                   20,
		"of another program": 20,
	} {
		o := int64(20)
		if next == 8 {
			o = 8
		}
		c := commitOf(offsetOf(o, metadata))
		require.Equal(t, next, c.resume(e, 2), metadata)
	}
	require.EqualValues(t, 20, commitOf(offsetOf(20, commitMetadata(e, 2, 20))).resume(&events.Epochs{}, 2), "epochs are not watched")
}

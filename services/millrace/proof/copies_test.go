package proof

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
)

// copies compares the copies that the handlers route and groups have made with what message-events has.
func (f *figures) copies(ctx context.Context, log *logged) (wrong []string) {
	changes, err := f.c.changedGroups(ctx, log)
	if err != nil {
		return []string{err.Error()}
	}
	for topic, want := range map[string]map[string]bool{
		events.RouteTopic(urgentRoute): log.routed, events.TopicGroups: changes,
	} {
		c := &copyists{topic: topic, log: log, want: want, made: map[string]bool{}, latest: map[string]int64{}, copies: map[string][]int64{}}
		if err := readTopic(ctx, f.c.log, topic, c.add); err != nil {
			return append(wrong, err.Error())
		}
		for id := range want {
			if !c.made[id] {
				c.report("event %s was not copied", id)
			}
		}
		for conversation, seqs := range c.copies {
			if seq, ok := outOfTurn(seqs); ok {
				c.report("what lies at %d of %s was not copied in its turn: %v", seq, conversation, seqs)
			}
		}
		wrong = append(wrong, c.wrong...)
		f.copied[topic] = len(want)
	}
	return wrong
}

// copyists go through the copies on a topic.
type copyists struct {
	topic  string
	log    *logged
	want   map[string]bool
	made   map[string]bool
	latest map[string]int64   // by conversation, the latest original
	copies map[string][]int64 // by conversation, where the originals lie
	wrong  []string
}

func (c *copyists) report(format string, args ...any) {
	c.wrong = append(c.wrong, c.topic+": "+fmt.Sprintf(format, args...))
}

// add checks a copy. One that is made again is the same. Of one whose original the log has lost nothing is
// known but its place among the others.
func (c *copyists) add(r *kgo.Record) {
	header, _ := headerOf(r, events.OriginHeader)
	origin, err := events.ParsePosition(header)
	if err != nil {
		c.report("a copy without an origin: %v", err)
		return
	}
	e, err := events.Decode(events.TopicMessages, origin, r.Value)
	if err != nil {
		c.report("%v", err)
		return
	}
	if originals := c.log.records[e.EventID]; originals != nil {
		same := func(o *kgo.Record) bool {
			return o.Partition == origin.Partition && o.Offset == events.Offset(origin.Seq) && bytes.Equal(o.Key, r.Key) && bytes.Equal(o.Value, r.Value)
		}
		switch {
		case !c.want[e.EventID]:
			c.report("event %s, a %s at %s, was copied for no reason", e.EventID, e.Type, origin)
		case !slices.ContainsFunc(originals, same):
			c.report("the copy of event %s is not what lies at %s", e.EventID, origin)
		}
	}
	if c.topic != events.TopicGroups && !c.made[e.EventID] && origin.Seq <= c.latest[string(r.Key)] { // nobody else makes those
		c.report("event %s at %s was copied first after one at %d of %s", e.EventID, origin, c.latest[string(r.Key)], r.Key)
	}
	c.made[e.EventID] = true
	c.latest[string(r.Key)] = max(c.latest[string(r.Key)], origin.Seq)
	c.copies[string(r.Key)] = append(c.copies[string(r.Key)], origin.Seq)
}

// outOfTurn returns one of the originals of which no copy comes in its turn. Other copies may come at any time: a message node
// makes one too if the handler groups is late, and handlers make copies again.
func outOfTurn(copies []int64) (seq int64, ok bool) {
	originals := slices.Compact(slices.Sorted(slices.Values(copies)))
	for _, seq := range copies {
		if len(originals) > 0 && seq == originals[0] {
			originals = originals[1:]
		}
	}
	if len(originals) == 0 {
		return 0, false
	}
	return originals[0], true
}

func TestOnlyCopiesInTurnCount(t *testing.T) {
	for name, test := range map[string]struct {
		copies []int64
		lacks  int64
	}{
		"in order":                {copies: []int64{3, 5, 9}},
		"none":                    {},
		"one early, and again":    {copies: []int64{3, 9, 5, 9}},
		"all again":               {copies: []int64{3, 5, 3, 5, 9}},
		"one late":                {copies: []int64{3, 9, 5}, lacks: 9},
		"the last one before all": {copies: []int64{9, 3, 5}, lacks: 9},
	} {
		t.Run(name, func(t *testing.T) {
			seq, ok := outOfTurn(test.copies)
			require.Equal(t, test.lacks != 0, ok)
			require.Equal(t, test.lacks, seq)
		})
	}
}

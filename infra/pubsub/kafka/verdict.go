package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"millrace/events"
	"millrace/infra/pubsub"
)

// verdict is what the epochs of a topic have to be, according to everything that is known of it.
type verdict struct {
	epochs  events.Epochs
	changed bool
	anew    bool            // it is another topic than before
	known   map[int32]int64 // by partition, the highest position that a record ever had
	lost    int64           // at least how many positions have lost their record
	cut     []int32         // the partitions that have lost their end
}

// newVerdict returns a verdict that begins with the epochs kept for the topic, whose present id is passed.
func newVerdict(kept events.Epochs, id string) verdict {
	v := verdict{epochs: kept, known: make(map[int32]int64)}
	v.epochs.Cuts = slices.Clone(kept.Cuts)
	if kept.TopicID == id {
		return v
	}
	v.changed, v.anew = true, kept.TopicID != ""
	v.epochs = events.Epochs{TopicID: id, Version: kept.Version, Changed: kept.Changed}
	if v.anew {
		v.epochs.First = kept.First + 1
		for _, c := range kept.Cuts {
			v.epochs.First = max(v.epochs.First, c.Epoch+1)
		}
	}
	return v
}

// commits takes into account what groups have committed. From that a store that was restored or lost learns which epochs
// there were.
func (v *verdict) commits(at map[int32][]commit) {
	for p, commits := range at {
		for _, c := range commits {
			switch {
			case c.topicID == "":
				v.give(p, v.epochs.Position(p, c.next-1).Seq)
			case c.topicID == v.epochs.TopicID:
				if c.epoch > v.epochs.Latest(p) {
					v.epochs.Cuts = append(v.epochs.Cuts, events.Cut{Partition: p, Epoch: c.epoch, Offset: c.begin})
					v.changed = true
				}
				v.give(p, events.Seq(c.epoch, c.next-1))
			case v.changed && !v.anew: // the store knows nothing of the topic
				v.epochs.First = max(v.epochs.First, c.epoch+1)
			}
		}
	}
}

// positions takes into account positions that records had. They may be of an earlier topic.
func (v *verdict) positions(used map[int32]int64) {
	for p, seq := range used {
		if v.anew && events.EpochOf(seq) >= v.epochs.First {
			v.epochs.First = events.EpochOf(seq) + 1
		}
		v.give(p, seq)
	}
}

// ends takes into account where the partitions ended before, by the epochs of that time.
func (v *verdict) ends(epochs *events.Epochs, next map[int32]int64) {
	for p, offset := range next {
		v.give(p, epochs.Position(p, offset).Seq-1)
	}
}

func (v *verdict) give(partition int32, seq int64) {
	v.known[partition] = max(v.known[partition], seq)
}

// judge compares the known positions with the offsets after the partitions' last records: the next record must get a position
// that no record had. lowest returns the lowest offset that a record got although the log had been longer before.
func (v *verdict) judge(next map[int32]int64, lowest func(partition int32) (int64, bool)) {
	for p, at := range next {
		if low, ok := lowest(p); ok {
			at = min(at, low)
		}
		is := v.epochs.Position(p, at).Seq
		known := v.known[p]
		if is > known {
			continue
		}
		v.lost += max(1, events.Offset(known)-events.Offset(is)+1)
		v.cut = append(v.cut, p)
		epoch := max(v.epochs.Latest(p), events.EpochOf(known)) + 1
		v.epochs.Cuts = append(v.epochs.Cuts, events.Cut{Partition: p, Epoch: epoch, Offset: at})
		v.changed = true
	}
	slices.Sort(v.cut)
}

func (v *verdict) reason(topic string) string {
	switch {
	case len(v.cut) > 0:
		return fmt.Sprintf("partitions %v of topic %s have lost their end", v.cut, topic)
	case v.anew:
		return fmt.Sprintf("topic %s was made anew", topic)
	}
	return fmt.Sprintf("the epochs of topic %s are not known to the store", topic)
}

// tell logs and reports what was found. What is lost cannot be recovered.
func (v *verdict) tell(ctx context.Context, log *slog.Logger, topic string, incident func(pubsub.Incident)) {
	if v.anew {
		log.ErrorContext(ctx, "the topic was deleted and made anew: what was in it and not stored yet is lost",
			slog.String("topic", topic), slog.Int64("epoch", v.epochs.First))
		incident(pubsub.Incident{Kind: pubsub.TopicAnew, Topic: topic})
	}
	if len(v.cut) > 0 {
		log.ErrorContext(ctx, "the log is shorter than it was: records that were accepted are lost, unless they are stored",
			slog.String("topic", topic), slog.Any("partitions", v.cut), slog.Int64("records", v.lost))
		incident(pubsub.Incident{Kind: pubsub.LogCut, Topic: topic, Records: v.lost})
	}
}

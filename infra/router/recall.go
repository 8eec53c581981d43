package router

import (
	"context"
	"time"

	"millrace/events"
	"millrace/infra/pubsub"
)

// recallTimeout bounds how long looking back may delay taking over a partition.
const recallTimeout = 2 * time.Second

// assigned takes over a partition. Before it tells the handler, it marks what the last owner handled lately.
func (c *consumer) assigned(after events.Position) {
	c.recall(after)
	c.failures.forget(after.Partition)
	if c.Assigned != nil {
		c.Assigned(after)
	}
}

// recall sets the marks that the last owner of the partition may have had in its own memory only. Without them a repeat of
// what lies before the position would not be recognised. If the log does not deliver in time, the partition is taken over
// without these marks.
func (c *consumer) recall(after events.Position) {
	ctx, cancel := context.WithTimeout(context.Background(), recallTimeout)
	defer cancel()
	var ids []string
	first := make(map[string]events.Position)
	log := c.bus.Log(c.Topic)
	err := pubsub.LookBack(after, pubsub.MaxLookBack, func(r events.Range) error {
		return log.Read(ctx, []events.Range{r}, func(raw pubsub.RawRecord) error {
			if raw.Replay {
				return nil // a replay counts at its original place
			}
			topic, original, err := events.Original(c.Topic, raw.Position, raw.Headers)
			if err != nil {
				return nil //nolint:nilerr // nobody has handled it
			}
			e, err := events.Decode(topic, original, raw.Value)
			if _, known := first[e.EventID]; err == nil && e.Type.On(c.Topic) && !known {
				ids = append(ids, e.EventID)
				first[e.EventID] = raw.Position
			}
			return nil
		})
	})
	if err != nil {
		c.log.Warn("what was handled before is not known, repeats of it will be handled", "partition", after.Partition, "error", err)
	}
	if len(ids) == 0 {
		return
	}
	var marks []Mark
	for i, at := range c.marks.Marked(ctx, ids...) {
		if at.Seq == 0 {
			marks = append(marks, Mark{ids[i], first[ids[i]]})
		}
	}
	c.marks.Mark(ctx, marks...)
}

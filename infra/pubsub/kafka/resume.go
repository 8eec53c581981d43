package kafka

import (
	"context"
	"log/slog"
	"time"

	"github.com/IBM/sarama"

	"millrace/events"
	"millrace/infra/pubsub"
)

// setupPause is the pause between attempts to find out where a session begins to read.
const setupPause = 500 * time.Millisecond

// setup is called at the beginning of a session, before any of its partitions is read, and makes each partition begin where
// the group has to go on. While the brokers or the store do not respond it tries again until the session ends.
func (c *assignments) setup(sess sarama.ConsumerGroupSession) {
	ctx := sess.Context()
	b := &basis{epochs: make(map[string]*events.Epochs), stale: make(chan struct{})}
	for topic, partitions := range sess.Claims() {
		for {
			err := c.resume(ctx, sess, topic, partitions, b)
			if err == nil || ctx.Err() != nil {
				break
			}
			c.log.WarnContext(ctx, "cannot find out where to go on", slog.String("topic", topic), slog.Any("error", err))
			select {
			case <-time.After(setupPause):
			case <-ctx.Done():
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.basis = b
}

// basis is what the assignments of a session go by.
type basis struct {
	epochs   map[string]*events.Epochs // by topic
	setbacks int                       // how often the store had gone back until then
	stale    chan struct{}             // closed when the session has to begin anew
	ended    bool
}

// resume compares what the group has committed with the log, and with what its handler has kept, and sets the offsets
// accordingly.
func (c *assignments) resume(ctx context.Context, sess sarama.ConsumerGroupSession, topic string, partitions []int32, b *basis) error {
	commits, err := c.bus.commits(ctx, topic, c.group)
	if err != nil {
		return err
	}
	known := knowledge{topic: topic, commits: make(map[int32][]commit, len(commits))}
	for p, at := range commits {
		known.commits[p] = []commit{at}
	}
	if err := c.bus.continuity.look(ctx, known); err != nil {
		return err
	}
	_, b.setbacks = c.bus.continuity.after()
	epochs := c.bus.continuity.epochs(topic)
	b.epochs[topic] = epochs
	first, err := c.bus.listOffsets(ctx, topic, earliest, readUncommitted, partitions...)
	if err != nil {
		return err
	}
	var kept map[int32]int64
	if c.config.Progress != nil {
		if kept, err = c.config.Progress(ctx); err != nil {
			return err
		}
	}
	var again, gone int64
	for _, p := range partitions {
		at, committed := commits[p]
		if !committed {
			continue
		}
		next := at.resume(epochs, p)
		if c.config.Progress != nil {
			if has := max(first[p], epochs.Next(events.Position{Partition: p, Seq: kept[p]})); has < next {
				again += next - has
				next = has
			}
			gone += max(0, first[p]-epochs.Next(events.Position{Partition: p, Seq: kept[p]}))
		} else {
			gone += max(0, first[p]-next)
		}
		next = max(next, first[p])
		switch metadata := commitMetadata(epochs, p, next); {
		case next < at.next:
			sess.ResetOffset(topic, p, next, metadata)
		case next > at.next:
			sess.MarkOffset(topic, p, next, metadata)
		}
	}
	if again > 0 {
		c.log.WarnContext(ctx, "the handler has less than its group has committed: what the log still has is handled again",
			slog.String("topic", topic), slog.Int64("records", again))
		c.bus.config.Incident(pubsub.Incident{Kind: pubsub.HandledAgain, Topic: topic, Group: c.group, Records: again})
	}
	if gone > 0 {
		c.log.ErrorContext(ctx, "the log no longer has records that the group has yet to handle",
			slog.String("topic", topic), slog.Int64("records", gone))
		c.bus.config.Incident(pubsub.Incident{Kind: pubsub.RecordsGone, Topic: topic, Group: c.group, Records: gone})
	}
	return nil
}

// watch makes the session begin anew when its epochs have changed, or when the handler has lost what it had kept.
func (c *assignments) watch(ctx context.Context) {
	for {
		looked, setbacks := c.bus.continuity.after()
		c.mu.Lock()
		if b := c.basis; b != nil && !b.ended {
			b.ended = c.config.Progress != nil && b.setbacks != setbacks
			for topic, epochs := range b.epochs {
				b.ended = b.ended || c.bus.continuity.epochs(topic) != epochs
			}
			if b.ended {
				close(b.stale)
			}
		}
		c.mu.Unlock()
		select {
		case <-looked:
		case <-ctx.Done():
			return
		}
	}
}

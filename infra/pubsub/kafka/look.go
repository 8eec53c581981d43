package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"millrace/events"
	"millrace/infra/pubsub"
)

// look compares the log with what is known of it, including what callers know, and settles what does not fit. It returns an
// error if it could not.
func (c *continuity) look(ctx context.Context, known ...knowledge) error {
	if c.store == nil {
		return nil
	}
	select {
	case c.one <- struct{}{}:
		defer func() { <-c.one }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		begin := time.Now()
		settled, err := c.lookOnce(ctx, known)
		c.mu.Lock()
		var unfit *unfitError
		switch {
		case errors.As(err, &unfit):
			c.fault = err
		case err == nil && settled:
			c.fault, c.trusted = nil, begin.Add(trust)
		}
		if err != nil || settled {
			close(c.looked)
			c.looked = make(chan struct{})
		}
		c.mu.Unlock()
		if err != nil || settled {
			return err
		}
	}
}

// known returns a copy of what is known of the topics. It takes into account what this process has published since the last
// look. The caller holds the mutex.
func (c *continuity) known() map[string]*line {
	known := make(map[string]*line, len(c.lines))
	for topic, l := range c.lines {
		known[topic] = &line{l.epochs, maps.Clone(l.next)}
	}
	for at, next := range c.published {
		ends := known[at.topic].next
		ends[at.partition] = max(ends[at.partition], next)
	}
	return known
}

// unfitError says that the log does not fit what is known, and that this could not be settled.
type unfitError struct{ error }

func (e *unfitError) Unwrap() error { return e.error }

// lookOnce looks once. It reports false if something changed meanwhile, so that nothing is settled.
func (c *continuity) lookOnce(ctx context.Context, known []knowledge) (settled bool, err error) {
	ids, err := c.topicIDs(ctx)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	lines, lowest, consumed := c.known(), maps.Clone(c.lowest), maps.Clone(c.consumed)
	c.mu.Unlock()
	// The stored positions are read before the ends of the log, because they only grow.
	stored, storeErr := c.store.Stored(ctx)
	found := make(map[string]*line, len(ids))
	for topic, id := range ids {
		var next map[int32]int64
		if _, ok := consumed[topic]; ok {
			if next, err = c.bus.listOffsets(ctx, topic, latest, readUncommitted); err != nil {
				return false, err
			}
		}
		l, err := c.lookAt(ctx, topic, id, lines[topic], next, storeErr, func(e *events.Epochs) verdict {
			v := newVerdict(*e, id)
			for _, k := range known {
				if k.topic == topic {
					v.commits(k.commits)
				}
			}
			if topic == events.TopicMessages {
				v.positions(stored)
			}
			if before := lines[topic]; before != nil && before.epochs.TopicID == id {
				v.ends(before.epochs, before.next)
			}
			v.judge(next, func(partition int32) (int64, bool) {
				offset, ok := lowest[place{topic, partition}]
				return offset, ok
			})
			return v
		})
		if l == nil || err != nil {
			return false, err
		}
		found[topic] = l
	}
	return true, c.adopt(ctx, found, lowest, stored)
}

// lookAt looks at one topic. It returns nil if another process has changed the epochs meanwhile, or the topic has changed.
func (c *continuity) lookAt(
	ctx context.Context, topic, id string, before *line, next map[int32]int64, storeErr error, judge func(*events.Epochs) verdict,
) (*line, error) {
	epochs, err := c.store.Epochs(ctx, topic)
	if err = errors.Join(storeErr, err); err != nil {
		if before == nil {
			return nil, err
		}
		epochs = *before.epochs // without a store nobody changes them
	}
	v := judge(&epochs)
	if !v.changed {
		if before != nil && before.epochs.Version == epochs.Version {
			return &line{before.epochs, next}, nil
		}
		return &line{&epochs, next}, nil
	}
	storing := errors.Join(storeErr, ctx.Err())
	if storing != nil {
		return nil, &unfitError{fmt.Errorf("%s: %w", v.reason(topic), storing)}
	}
	ids, err := c.topicIDs(ctx)
	if err != nil || ids[topic] != id {
		return nil, err
	}
	v.epochs.Version++
	if epochs.TopicID != "" {
		v.epochs.Changed = time.Now().UnixMilli()
	}
	set, err := c.store.SetEpochs(ctx, topic, v.epochs)
	switch {
	case err != nil:
		return nil, &unfitError{fmt.Errorf("%s: %w", v.reason(topic), err)}
	case !set:
		return nil, nil
	}
	v.tell(ctx, c.log, topic, c.bus.config.Incident)
	return &line{&v.epochs, next}, nil
}

// topicIDs returns the id of every topic. It creates a topic that is missing.
func (c *continuity) topicIDs(ctx context.Context) (map[string]string, error) {
	config := c.bus.withTopics()
	names := config.allTopics()
	for {
		details, err := c.bus.admin.ListTopics(ctx, names...)
		if err != nil {
			return nil, fmt.Errorf("look up topics: %w", err)
		}
		ids := make(map[string]string, len(names))
		var missing []string
		for _, name := range names {
			switch detail, ok := details[name]; {
			case !ok || errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
				missing = append(missing, name)
			case detail.Err != nil:
				return nil, fmt.Errorf("look up topic %s: %w", name, detail.Err)
			case c.bus.config.Partitions != 0 && !isPoison(name) && len(detail.Partitions) != int(c.bus.config.Partitions):
				return nil, &unfitError{fmt.Errorf("topic %s has %d partitions, which were %d", name, len(detail.Partitions), c.bus.config.Partitions)}
			default:
				ids[name] = detail.ID.String()
			}
		}
		if len(missing) == 0 {
			return ids, nil
		}
		fault := &unfitError{fmt.Errorf("topics %v do not exist", missing)}
		c.mu.Lock()
		c.fault = fault
		c.mu.Unlock()
		c.log.ErrorContext(ctx, "topics were deleted: they are made anew", slog.Any("topics", missing))
		if _, err := EnsureTopics(ctx, config, c.log); err != nil {
			return nil, &unfitError{fmt.Errorf("%w: %w", fault, err)}
		}
		select {
		case <-time.After(metadataAge): // what the client has cached is older
		case <-ctx.Done():
			return nil, fault
		}
	}
}

// tell logs and reports what has become of a topic whose epochs have changed, whichever process has noticed.
func (c *continuity) tell(ctx context.Context, topic string, before, after *events.Epochs) {
	kind := pubsub.LogCut
	if before.TopicID != after.TopicID {
		kind = pubsub.TopicAnew
	}
	c.log.WarnContext(ctx, "the epochs of the topic have changed: sending goes on in a moment", slog.String("topic", topic),
		slog.String("kind", string(kind)))
	c.bus.config.Incident(pubsub.Incident{Kind: kind, Topic: topic})
}

// adopt makes what the look has found the new knowledge.
func (c *continuity) adopt(ctx context.Context, found map[string]*line, considered map[place]int64, stored map[int32]int64) error {
	c.mu.Lock()
	known := c.lines
	c.mu.Unlock()
	var changed []string
	for topic, l := range found {
		if before := known[topic]; before != nil && before.epochs != l.epochs {
			changed = append(changed, topic)
			c.tell(ctx, topic, before.epochs, l.epochs)
		}
	}
	if len(changed) > 0 {
		c.bus.topics.forget(changed)
		if err := c.bus.topics.loadAll(ctx, changed); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, l := range found {
		before := c.lines[topic]
		if before != nil && before.epochs != l.epochs || before == nil && l.epochs.Changed > 0 {
			now := time.Now()
			opens := time.UnixMilli(l.epochs.Changed).Add(settleTime)
			if latest := now.Add(settleTime); opens.After(latest) {
				opens = latest
			}
			if opens.After(c.opens) {
				c.opens = opens
			}
			of := func(at place, _ int64) bool { return at.topic == topic }
			maps.DeleteFunc(c.published, of)
			maps.DeleteFunc(c.lowest, of) // by the floors of before
		}
		if before != nil && before.epochs.TopicID != l.epochs.TopicID {
			c.stale = true
		}
		c.lines[topic] = l
	}
	for at, offset := range considered {
		if c.lowest[at] == offset {
			delete(c.lowest, at)
		}
	}
	if stored == nil {
		return nil
	}
	for p, seq := range c.stored {
		if stored[p] < seq {
			c.setbacks++
			c.log.ErrorContext(ctx, "the store has less than before", slog.Int("partition", int(p)),
				slog.Int64("stored", stored[p]), slog.Int64("before", seq))
			break
		}
	}
	c.stored = stored
	return nil
}

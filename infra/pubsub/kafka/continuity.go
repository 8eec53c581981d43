package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"millrace/events"
	"millrace/infra/pubsub"
)

const (
	// lookInterval is how often a process looks whether the log still goes on where it was, lookTimeout how long a look may
	// take.
	lookInterval = time.Second
	lookTimeout  = 3 * time.Second
	// trust is for how long after the beginning of a look consumers go by what it found.
	trust = 4 * time.Second
	// settleTime is how long nothing is published after epochs changed. By then every process has noticed, or has ceased to
	// hand out records: so none has a position by epochs that were out of date when it was published.
	settleTime = trust + time.Second
)

// EpochStore keeps the topics' epochs for all processes, and how far message-events has been stored.
type EpochStore interface {
	// Epochs returns the topic's epochs, the zero value if none were ever set.
	Epochs(ctx context.Context, topic string) (events.Epochs, error)
	// SetEpochs sets them if their version is the one after that of those there are, which it reports.
	SetEpochs(ctx context.Context, topic string, epochs events.Epochs) (set bool, err error)
	// Stored returns the positions of message-events up to which all is stored, by partition.
	Stored(ctx context.Context) (map[int32]int64, error)
}

// continuity watches that every topic goes on where it was: that it is the same topic, and that none of its partitions has
// lost its end, be it to an unclean election or to damage of the embedded broker's files. Where that does not hold it
// raises the epoch, so that no position is given twice, and nothing is published until all processes go by the new one.
type continuity struct {
	bus   *Bus
	store EpochStore // nil: epochs are as configured, and nothing is watched
	log   *slog.Logger
	fixed *events.Epochs // without a store

	one  chan struct{} // held by the look under way
	wake chan struct{} // holds one token when a look is due at once
	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	lines    map[string]*line
	consumed map[string]struct{} // topics whose ends are watched
	trusted  time.Time           // until then consumers go by the lines
	fault    error               // why the log is not to be written to
	opens    time.Time           // not before then either
	renewed  map[string]struct{} // topics that were made anew and are unknown to the producer as yet
	looked   chan struct{}       // closed and replaced after every look
	lowest   map[place]int64     // offsets that were given to published records although the log was longer before
	stored   map[int32]int64     // as of the last look
	setbacks int                 // how often the store was found to have less than before
}

// line is what is known of a topic.
type line struct {
	epochs *events.Epochs
	next   map[int32]int64 // the offset behind the last record of every partition; nil where that is not watched
}

// knowledge is what a caller knows of a topic beside what the look finds out by itself.
type knowledge struct {
	topic   string
	commits map[int32][]commit
}

func newContinuity(b *Bus) *continuity {
	return &continuity{
		bus: b, store: b.config.Epochs, log: b.log, fixed: &events.Epochs{First: b.config.Epoch},
		one: make(chan struct{}, 1), wake: make(chan struct{}, 1), done: make(chan struct{}),
		lines: make(map[string]*line), renewed: make(map[string]struct{}), looked: make(chan struct{}),
		lowest: make(map[place]int64), consumed: map[string]struct{}{events.TopicMessages: {}},
	}
}

// start looks for the first time and then goes on until it is closed.
func (c *continuity) start(ctx context.Context) error {
	if c.store == nil {
		close(c.done)
		c.stop = func() {}
		return persist(ctx, func() error { return c.learn(ctx) })
	}
	if err := persist(ctx, func() error { return c.begin(ctx) }); err != nil {
		return err
	}
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	go c.run(ctx)
	return nil
}

// begin looks with all that the consumer groups have committed, before this process publishes anything.
func (c *continuity) begin(ctx context.Context) error {
	known, err := c.committed(ctx)
	if err != nil {
		return err
	}
	return c.look(ctx, known...)
}

// learn makes out the epochs without a store: who has committed has noted which they are.
func (c *continuity) learn(ctx context.Context) error {
	known, err := c.committed(ctx)
	if err != nil {
		return err
	}
	for _, k := range known {
		topic, err := c.bus.topics.get(ctx, k.topic)
		if err != nil {
			return err
		}
		v := newVerdict(events.Epochs{}, topic.id.String())
		v.commits(k.commits)
		c.mu.Lock()
		c.lines[k.topic] = &line{epochs: &v.epochs}
		c.mu.Unlock()
	}
	return nil
}

// committed is what the groups of the configuration have committed.
func (c *continuity) committed(ctx context.Context) ([]knowledge, error) {
	known := make([]knowledge, 0, len(c.bus.config.Groups))
	for topic, groups := range c.bus.config.Groups {
		k := knowledge{topic: topic, commits: make(map[int32][]commit)}
		for _, group := range groups {
			commits, err := c.bus.commits(ctx, topic, group)
			if err != nil {
				return nil, err
			}
			for p, at := range commits {
				k.commits[p] = append(k.commits[p], at)
			}
		}
		known = append(known, k)
	}
	return known, nil
}

func (c *continuity) close() {
	c.stop()
	<-c.done
}

func (c *continuity) run(ctx context.Context) {
	defer close(c.done)
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		looking, cancel := context.WithTimeout(ctx, lookTimeout)
		if err := c.look(looking); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "cannot look whether the log goes on where it was", slog.Any("error", err))
		}
		cancel()
		c.open()
	}
}

// open lets the producer take up topics that were made anew, once it is time.
func (c *continuity) open() {
	c.mu.Lock()
	var topics []string
	if c.fault == nil && !time.Now().Before(c.opens) {
		topics = slices.Collect(maps.Keys(c.renewed))
	}
	c.mu.Unlock()
	if len(topics) == 0 {
		return
	}
	c.bus.client.PurgeTopicsFromClient(topics...)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, topic := range topics {
		delete(c.renewed, topic)
	}
}

// epochs are those of the topic.
func (c *continuity) epochs(topic string) *events.Epochs {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[topic]; l != nil {
		return l.epochs
	}
	return c.fixed
}

// writable returns why nothing is to be published for now, nil if it may be.
func (c *continuity) writable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fault != nil:
		return fmt.Errorf("%w: %w", pubsub.ErrUnsettled, c.fault)
	case time.Now().Before(c.opens) || len(c.renewed) > 0:
		return fmt.Errorf("%w: waiting until all processes go by the new epochs", pubsub.ErrUnsettled)
	}
	return nil
}

// current reports whether records may be handed out by these epochs of the topic. A caller that received a record before
// it asked has the right position for it. If not, looked is closed when it may be another.
func (c *continuity) current(topic string, epochs *events.Epochs) (ok bool, looked <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lines[topic]
	if c.store == nil || l == nil {
		return true, nil
	}
	return l.epochs == epochs && c.fault == nil && time.Now().Before(c.trusted), c.looked
}

// after returns a channel that is closed by the next look, and how often the store has gone back until now.
func (c *continuity) after() (looked <-chan struct{}, setbacks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looked, c.setbacks
}

// watch has the topic's ends looked at too.
func (c *continuity) watch(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumed[topic] = struct{}{}
}

// floor is the offset that a record published from now on cannot fall below.
func (c *continuity) floor(at place) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[at.topic]; l != nil {
		return l.next[at.partition]
	}
	return 0
}

// suspect notes that a record was given an offset at which, or behind which, the log had one before, or ends there.
func (c *continuity) suspect(at place, offset int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lowest, ok := c.lowest[at]; !ok || offset < lowest {
		c.lowest[at] = offset
	}
	c.fault = fmt.Errorf("%s partition %d is shorter than it was", at.topic, at.partition)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return fmt.Errorf("%w: %w", pubsub.ErrUnsettled, c.fault)
}

// look compares the log with what is known of it, and settles what does not fit. An error means that it could not. What
// others know is considered too.
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

// unfitError says that the log does not fit, and that it could not be settled.
type unfitError struct{ error }

func (e *unfitError) Unwrap() error { return e.error }

// lookOnce is not settled where something changed meanwhile.
func (c *continuity) lookOnce(ctx context.Context, known []knowledge) (settled bool, err error) {
	ids, err := c.topicIDs(ctx)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	lines, lowest, consumed := maps.Clone(c.lines), maps.Clone(c.lowest), maps.Clone(c.consumed)
	c.mu.Unlock()
	// What is stored is asked for before the ends are: they only grow.
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

// lookAt looks at one topic. It returns nil where another process has changed the epochs meanwhile, or the topic.
func (c *continuity) lookAt(
	ctx context.Context, topic, id string, before *line, next map[int32]int64, storeErr error, judge func(*events.Epochs) verdict,
) (*line, error) {
	epochs, err := c.store.Epochs(ctx, topic)
	if err = errors.Join(storeErr, err); err != nil {
		if before == nil {
			return nil, err
		}
		epochs = *before.epochs // nobody changes them without the store
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

// topicIDs returns the id of every topic. One that is missing is made.
func (c *continuity) topicIDs(ctx context.Context) (map[string]string, error) {
	names := events.Topics()
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
			case !isPoison(name) && len(detail.Partitions) != int(c.bus.config.Partitions):
				return nil, &unfitError{fmt.Errorf("topic %s has %d partitions, configured are %d", name, len(detail.Partitions), c.bus.config.Partitions)}
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
		if err := EnsureTopics(ctx, c.bus.config, c.log); err != nil {
			return nil, &unfitError{fmt.Errorf("%w: %w", fault, err)}
		}
		select {
		case <-time.After(metadataAge): // what the client remembers is older
		case <-ctx.Done():
			return nil, fault
		}
	}
}

// tell says what has become of a topic whose epochs have changed, whichever process has noticed.
func (c *continuity) tell(ctx context.Context, topic string, before, after *events.Epochs) {
	kind := pubsub.LogCut
	if before.TopicID != after.TopicID {
		kind = pubsub.TopicAnew
	}
	c.log.WarnContext(ctx, "the epochs of the topic have changed: sending goes on in a moment", slog.String("topic", topic),
		slog.String("kind", string(kind)))
	c.bus.config.Incident(pubsub.Incident{Kind: kind, Topic: topic})
}

// adopt makes what was found what is known.
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
		}
		if before != nil && before.epochs.TopicID != l.epochs.TopicID {
			c.renewed[topic] = struct{}{}
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

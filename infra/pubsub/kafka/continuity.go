package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/events"
	"millrace/infra/pubsub"
)

const (
	// lookInterval is how often a process checks whether the log still goes on where it was. lookTimeout bounds one check.
	lookInterval = time.Second
	lookTimeout  = 3 * time.Second
	// trust is how long after the beginning of a look consumers rely on what it has found.
	trust = 4 * time.Second
	// settleTime is how long nothing is published after epochs have changed. By then every process has noticed the change or
	// has stopped delivering records. So no record gets a position by epochs that were out of date when it was published.
	settleTime = trust + time.Second
)

// EpochStore keeps the epochs of the topics for all processes. It also knows how far message-events is stored.
type EpochStore interface {
	// Epochs returns the topic's epochs, or the zero value if none were ever set.
	Epochs(ctx context.Context, topic string) (events.Epochs, error)
	// SetEpochs sets the topic's epochs if their version follows the one that is kept, and reports whether it did.
	SetEpochs(ctx context.Context, topic string, epochs events.Epochs) (set bool, err error)
	// Stored returns, by partition, the stored positions of message-events.
	Stored(ctx context.Context) (map[int32]int64, error)
}

// continuity watches that every topic goes on where it was: that it is the same topic, and that none of its partitions has
// lost its end, to an unclean election or to damage of the embedded broker's files. If that does not hold it raises the
// epoch, so that no position is given twice, and nothing is published until all processes use the new epoch.
type continuity struct {
	bus   *Bus
	store EpochStore // nil: the epochs are those of the configuration, and nothing is watched
	log   *slog.Logger
	fixed *events.Epochs // the epochs of all topics if there is no store

	one  chan struct{}   // held by the look under way
	wake chan struct{}   // holds one token when a look is due at once
	life context.Context // ends with close
	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	lines    map[string]*line
	consumed map[string]struct{} // topics whose ends are watched
	trusted  time.Time           // until then consumers rely on what is known
	fault    error               // why nothing can be published
	opens    time.Time           // nothing can be published before this time either
	stale    bool                // topics were made anew, of which the producer does not know yet
	looked   chan struct{}       // closed and replaced after every look
	lowest   map[place]int64     // offsets of published records that lie before the earlier end of the log
	stored   map[int32]int64     // as of the last look
	setbacks int                 // how often the store had less than before

	// published has the offsets after the last records that this process has published by the present epochs, of topics whose
	// ends are watched.
	published map[place]int64
}

// errChanged means that nobody knows the positions of what was published while the epochs changed.
var errChanged = fmt.Errorf("%w: the epochs have changed meanwhile", pubsub.ErrUnsettled)

// line is what is known of a topic.
type line struct {
	epochs *events.Epochs
	next   map[int32]int64 // by partition, the offset after the last record; nil if that is not watched
}

// knowledge is what a caller of look knows of a topic beyond what the look finds out by itself.
type knowledge struct {
	topic   string
	commits map[int32][]commit
}

func newContinuity(b *Bus) *continuity {
	return &continuity{
		bus: b, store: b.config.Epochs, log: b.log, fixed: &events.Epochs{First: b.config.Epoch},
		one: make(chan struct{}, 1), wake: make(chan struct{}, 1), done: make(chan struct{}),
		lines: make(map[string]*line), looked: make(chan struct{}),
		published: make(map[place]int64), lowest: make(map[place]int64), consumed: map[string]struct{}{events.TopicMessages: {}},
	}
}

// start looks for the first time, and then at intervals until close.
func (c *continuity) start(ctx context.Context) error {
	c.life, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	if c.store == nil {
		close(c.done)
		return persist(ctx, func() error { return c.learn(ctx) })
	}
	if err := persist(ctx, func() error { return c.begin(ctx) }); err != nil {
		return err
	}
	go c.run(c.life)
	return nil
}

// begin looks, with everything that the consumer groups have committed, before this process publishes anything.
func (c *continuity) begin(ctx context.Context) error {
	known, err := c.committed(ctx)
	if err != nil {
		return err
	}
	return c.look(ctx, known...)
}

// learn finds out the epochs without a store, from the metadata of the groups' commits.
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

// committed returns what the groups of the configuration have committed.
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
		if err := c.open(); err != nil {
			c.log.WarnContext(ctx, "cannot publish to the new topics yet", slog.Any("error", err))
		}
	}
}

// open has the producer replaced if topics were made anew, once publishing may go on and nothing is being published.
func (c *continuity) open() error {
	c.mu.Lock()
	due := c.stale && c.settled() == nil
	c.mu.Unlock()
	if !due || c.bus.publisher.pending.Load() > 0 {
		return nil
	}
	if err := c.bus.publisher.renew(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = false
	return nil
}

// epochs returns the epochs of the topic.
func (c *continuity) epochs(topic string) *events.Epochs {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[topic]; l != nil {
		return l.epochs
	}
	return c.fixed
}

// writable returns why nothing can be published for now, or nil.
func (c *continuity) writable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.settled(); err != nil || !c.stale {
		return err
	}
	return fmt.Errorf("%w: waiting until the producer knows the new topics", pubsub.ErrUnsettled)
}

// settled returns why the epochs cannot be relied on for now, or nil. The caller holds the mutex.
func (c *continuity) settled() error {
	switch {
	case c.fault != nil:
		return fmt.Errorf("%w: %w", pubsub.ErrUnsettled, c.fault)
	case time.Now().Before(c.opens):
		return fmt.Errorf("%w: waiting until all processes go by the new epochs", pubsub.ErrUnsettled)
	}
	return nil
}

// current reports whether records may be delivered with positions by these epochs of the topic. If a caller has received a
// record before it asked, and the result is true, the record's position is right. If it is false, the channel is closed when
// the result may have changed.
func (c *continuity) current(topic string, epochs *events.Epochs) (ok bool, looked <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lines[topic]
	if c.store == nil || l == nil {
		return true, nil
	}
	return l.epochs == epochs && c.fault == nil && time.Now().Before(c.trusted), c.looked
}

// after returns a channel that the next look closes, and how often the store had gone back until now.
func (c *continuity) after() (looked <-chan struct{}, setbacks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looked, c.setbacks
}

// watch adds the topic to those whose ends are watched.
func (c *continuity) watch(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumed[topic] = struct{}{}
}

// floor returns the lowest offset that a record published from now on can get, and the epochs that this is by.
func (c *continuity) floor(at place) (int64, *events.Epochs) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[at.topic]; l != nil {
		return max(l.next[at.partition], c.published[at]), l.epochs
	}
	return 0, c.fixed
}

// got notes which offsets a batch that this process has published got: the first, and the one after the last. floor and epochs
// are what they were before. The error says that the log had, or has, another record at the first offset or after it, or that
// the epochs have changed since, so that floor says nothing.
func (c *continuity) got(at place, epochs *events.Epochs, floor, first, next int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[at.topic]; l != nil && l.epochs != epochs {
		return errChanged
	}
	if first >= floor {
		if l := c.lines[at.topic]; l != nil && l.next != nil {
			c.published[at] = max(c.published[at], next)
		}
		return nil
	}
	if lowest, ok := c.lowest[at]; !ok || first < lowest {
		c.lowest[at] = first
	}
	c.fault = fmt.Errorf("%s partition %d is shorter than it was", at.topic, at.partition)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return fmt.Errorf("%w: %w", pubsub.ErrUnsettled, c.fault)
}

package connect

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"millrace/events"
	"millrace/infra/panics"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// The bounds of a session's buffer, which are those of its outbox.
type bounds struct{ frames, bytes int }

// hub knows which session is interested in which channel and tells the push nodes. It gives the deliveries of their spans to
// the sessions, in the order of each partition and without gaps. All work under its lock is in memory: giving a delivery to a
// session only appends it to a queue.
type hub struct {
	log     *slog.Logger
	reader  logReader
	limit   bounds
	metrics *metrics
	tracer  *telemetry.Tracer
	panics  *panics.Panics
	wait    time.Duration // how long to wait for acknowledgements
	keep    time.Duration // how long to keep the interest in a channel without sessions
	grace   time.Duration // how long to wait before a user is reported offline

	// ctx ends the goroutines that fill gaps. wg waits for them.
	ctx context.Context
	wg  sync.WaitGroup

	mu         sync.Mutex
	channels   map[string]*channel
	idle       []idleChannel // ordered by time
	streams    map[*stream]struct{}
	partitions map[int32]*partition
	watches    map[int64]*watch // by user
	corked     int              // how many frames of push nodes are being handled
	unwritten  []*outbox        // what is queued meanwhile is not being written yet
	deliveries uint64           // the number of deliveries so far, from which each gets its number
	sessions   []*subscriber    // all that have joined, in no particular order
	skips      []skip           // those that some session may not have taken into account yet
	skipped    uint64           // the number of skips so far
	tracing    deliveryTrace
	skipping   bool          // a goroutine is telling the sessions
	announced  []*subscriber // sessions of devices that are to be announced again, ordered by time
	broadcasts broadcasts
}

// logReader reads the deliveries of all records of a partition in (after, through]. It calls visit for span after span. When
// it returns nil it has reached through.
type logReader interface {
	ReadLog(ctx context.Context, partition int32, after, through int64, visit func(*millracev1.Span)) error
}

// channel is a channel that the gateway is interested in: as long as it has subscribers, and a while longer.
type channel struct {
	group int64 // 0 for a user's channel
	user  int64 // 0 for a group's channel
	subs  map[*subscriber]struct{}
	idle  time.Time // since when it has had no subscribers
}

type idleChannel struct {
	name  string
	since time.Time
}

func newHub(ctx context.Context, cfg Config, reader logReader, m *metrics, log *slog.Logger) *hub {
	return &hub{
		log: log, reader: reader, metrics: m, tracer: cfg.Tracer, panics: cfg.Panics, limit: bounds{cfg.OutboxFrames, cfg.OutboxBytes}, wait: cfg.AckWait, keep: cfg.KeepInterest,
		ctx:      ctx,
		channels: map[string]*channel{}, streams: map[*stream]struct{}{}, partitions: map[int32]*partition{},
		watches: map[int64]*watch{}, grace: cfg.OfflineAfter, broadcasts: newBroadcasts(),
	}
}

// join subscribes a session to its user's channel and to the groups. What arrives is buffered.
func (h *hub) join(sub *subscriber, groups []*millracev1.Membership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sub.buffering = true
	sub.skips, sub.place = h.skipped, len(h.sessions)
	h.sessions = append(h.sessions, sub)
	h.subscribe(sub, events.UserChannel(sub.user), 0)
	for _, m := range groups {
		h.enter(sub, m.GetGroupId(), stay{joined: m.GetJoinedSeq(), partition: unknownPartition})
	}
}

// leave removes the session.
func (h *hub) leave(sub *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sub.gone || sub.place >= len(h.sessions) || h.sessions[sub.place] != sub {
		return // it has not joined
	}
	sub.gone = true
	last := h.sessions[len(h.sessions)-1]
	h.sessions[sub.place], last.place = last, sub.place
	h.sessions[len(h.sessions)-1] = nil
	h.sessions = h.sessions[:len(h.sessions)-1]
	h.unwatch(sub)
	h.unsubscribe(sub, events.UserChannel(sub.user))
	for group := range sub.groups {
		h.exit(sub, group)
	}
}

// member reports whether the session belongs to the group.
func (h *hub) member(sub *subscriber, group int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := sub.groups[group]
	return ok
}

// enter subscribes the session to a group from the position at which its user joined. It reports false if the session was
// subscribed already.
func (h *hub) enter(sub *subscriber, group int64, s stay) bool {
	if _, ok := sub.groups[group]; ok || sub.gone {
		return false
	}
	if sub.groups == nil {
		sub.groups = map[int64]stay{}
	}
	sub.groups[group] = s
	h.subscribe(sub, events.Group(group), group)
	return true
}

func (h *hub) exit(sub *subscriber, group int64) {
	delete(sub.groups, group)
	h.unsubscribe(sub, events.Group(group))
}

func (h *hub) subscribe(sub *subscriber, name string, group int64) {
	c := h.channels[name]
	if c == nil {
		c = &channel{group: group, subs: map[*subscriber]struct{}{}}
		if group == 0 {
			c.user = sub.user
		}
		h.channels[name] = c
		h.changed(name)
	}
	if c.subs[sub] = struct{}{}; len(c.subs) == 1 {
		h.moved(c)
	}
}

func (h *hub) unsubscribe(sub *subscriber, name string) {
	c := h.channels[name]
	if c == nil {
		return
	}
	if delete(c.subs, sub); len(c.subs) == 0 {
		c.idle = time.Now()
		h.idle = append(h.idle, idleChannel{name, c.idle})
		h.moved(c)
	}
}

// sweep removes the channels that have had no subscribers for a while.
func (h *hub) sweep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.idle) > 0 && time.Since(h.idle[0].since) >= h.keep {
		old := h.idle[0]
		h.idle = h.idle[1:]
		if c := h.channels[old.name]; c != nil && len(c.subs) == 0 && c.idle.Equal(old.since) {
			delete(h.channels, old.name)
			h.changed(old.name)
		}
	}
}

// run does the periodic work until the context ends.
func (h *hub) run(ctx context.Context) {
	for cluster.Sleep(ctx, h.keep/8+time.Millisecond) {
		h.sweep()
		h.announceLost()
	}
}

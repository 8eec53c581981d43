package message

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"millrace/events"
	"millrace/infra/admission"
	"millrace/infra/panics"
	"millrace/infra/pubsub"
	"millrace/infra/telemetry"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxTail is how many records one caller may ask for; maxMerged is how many one reading for several callers may span.
	maxTail     = 20_000
	maxMerged   = 2 * maxTail
	tailTimeout = 10 * time.Second
)

var errTooLong = errors.New("too many records to read")

// tail reads the log for all who wait. The ranges that are asked for while a reading is under way are merged into the next
// one, which fetches and decodes every record once.
type tail struct {
	topic      pubsub.Log
	partitions int32
	judge      *admission.Judge
	tasks      *tasks
	traces     bool // whether deliveries name the spans in which their records were published

	mu      sync.Mutex
	queue   []*pull
	running bool

	// gone is used by run alone. It holds, by partition, the position before which a range is known to have lost its
	// beginning.
	gone []int64
}

// pull is what one caller wants. Its ranges are indexed by partition and shrink as they are read.
type pull struct {
	judged  bool // leave out what storage does not take
	ranges  []events.Range
	trimmed []int32
	err     error
	done    chan struct{}

	mu    sync.Mutex
	visit func(*logged) error
	over  bool
}

// logged is a record of the log that readers may see.
type logged struct {
	events.Record
	conversation events.Conversation
	encoded      *millracev1.Delivery
}

func newTail(topic pubsub.Log, partitions int32, j *admission.Judge, t *tasks) *tail {
	return &tail{topic: topic, partitions: partitions, judge: j, tasks: t, gone: make([]int64, partitions)}
}

// read visits the records in the ranges, of which there is at most one for a partition, ascending within each partition. It
// leaves out records that no handler would take and, if judged is set, those that storage refuses or skips. The visits come
// one at a time from another goroutine and end before read returns. They hold up everybody who reads, so they should only
// filter. An error of visit ends them and is returned. Partitions whose range has lost its beginning are returned as trimmed.
// read returns errTooLong if the ranges are too long.
func (t *tail) read(
	ctx context.Context, ranges []events.Range, judged bool, visit func(*logged) error,
) (trimmed []int32, err error) {
	if length(ranges) > maxTail {
		return nil, errTooLong
	}
	p := &pull{judged: judged, ranges: make([]events.Range, t.partitions), done: make(chan struct{}), visit: visit}
	for _, r := range ranges {
		p.ranges[r.Partition] = r
	}
	if p.empty() {
		return nil, nil
	}
	if !t.enqueue(p) {
		return nil, errClosed
	}
	select {
	case <-p.done:
		return p.trimmed, p.err
	case <-ctx.Done():
		p.stop()
		return nil, ctx.Err()
	}
}

func (t *tail) enqueue(p *pull) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running {
		if t.running = t.tasks.start(t.run); !t.running {
			return false
		}
	}
	t.queue = append(t.queue, p)
	return true
}

func (t *tail) run(ctx context.Context) {
	for batch, union := t.take(); batch != nil; batch, union = t.take() {
		err := t.pull(ctx, union, batch)
		for _, p := range batch {
			if errors.Is(err, pubsub.ErrTrimmed) {
				p.err = t.pullApart(ctx, p)
			} else if p.err == nil {
				p.err = err
			}
			close(p.done)
		}
	}
}

// take removes from the queue the callers that the next reading serves, as many as together span no more than maxMerged, and
// returns the ranges to read for them.
func (t *tail) take() ([]*pull, []events.Range) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.queue, t.running = nil, false
		return nil, nil
	}
	union := make([]events.Range, t.partitions)
	n := 0
	for ; n < len(t.queue); n++ {
		t.queue[n].drop(t.gone)
		more := merge(union, t.queue[n].ranges)
		if n > 0 && length(more) > maxMerged {
			break
		}
		union = more
	}
	batch := t.queue[:n:n]
	t.queue = t.queue[n:]
	return batch, union
}

// pull reads the ranges once for all callers of the batch. If it panics, all of them get the error.
func (t *tail) pull(ctx context.Context, ranges []events.Range, batch []*pull) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = t.tasks.panics.Recovered(panics.Call, v)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	var wanted []events.Range
	tracks := make(map[int32]*admission.Track)
	for _, r := range ranges {
		if r.After < r.Through {
			wanted = append(wanted, r)
			tracks[r.Partition] = t.judge.Follow(events.Position{Partition: r.Partition, Seq: r.After})
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	judged := slices.ContainsFunc(batch, func(p *pull) bool { return p.judged })
	var takers []*pull
	return t.topic.Read(ctx, wanted, func(raw pubsub.RawRecord) error {
		takers = takers[:0]
		for _, p := range batch {
			if p.wants(raw.Position) {
				takers = append(takers, p)
			}
		}
		if len(takers) > 0 || judged {
			if r := t.decode(raw); r != nil {
				// A track has to see every record, even one that nobody wants.
				admitted := !judged || tracks[raw.Partition].Admits(ctx, &r.Record)
				for _, p := range takers {
					if admitted || !p.judged {
						p.give(r, t.tasks.panics)
					}
				}
			}
		}
		if !slices.ContainsFunc(batch, func(p *pull) bool { return p.wantsMore(raw.Position) }) {
			return pubsub.ErrSkipRest
		}
		return nil
	})
}

// pullApart reads what is left for one caller, each partition by itself, to find out which of them have lost their beginning.
func (t *tail) pullApart(ctx context.Context, p *pull) error {
	if p.err != nil {
		return p.err
	}
	p.drop(t.gone)
	for _, r := range p.ranges {
		err := t.pull(ctx, []events.Range{r}, []*pull{p})
		if errors.Is(err, pubsub.ErrTrimmed) {
			t.gone[r.Partition] = r.After + 1
			p.trimmed = append(p.trimmed, r.Partition)
		} else if err != nil {
			return err
		}
	}
	return p.err
}

// decode returns nil for a record that goes to the poison queue, for one that was replayed from there, and for one of an
// unknown type.
func (t *tail) decode(raw pubsub.RawRecord) *logged {
	if raw.Replay {
		return nil
	}
	e, err := events.Decode(events.TopicMessages, raw.Position, raw.Value)
	if err != nil || !e.Type.Known() {
		return nil
	}
	key := e.ConversationKey()
	if events.Partition(key, t.partitions) != raw.Partition {
		return nil
	}
	conversation, err := events.ParseConversation(key)
	if err != nil {
		return nil
	}
	r := &logged{Record: events.Record{Event: e, Position: raw.Position}, conversation: conversation}
	if t.traces {
		r.Trace = telemetry.HeadersContext(raw.Headers.Get)
	}
	return r
}

// delivery encodes the record once for all who read it together.
func (r *logged) delivery() (*millracev1.Delivery, error) {
	if r.encoded != nil {
		return r.encoded, nil
	}
	var err error
	r.encoded, err = events.DeliveryOf(&r.Record)
	return r.encoded, err
}

// drop removes the ranges that are known to have lost their beginning.
func (p *pull) drop(gone []int64) {
	for i, r := range p.ranges {
		if r.After < r.Through && r.After < gone[i] {
			p.trimmed = append(p.trimmed, r.Partition)
			p.ranges[i] = events.Range{}
		}
	}
}

func (p *pull) empty() bool {
	for _, r := range p.ranges {
		if r.After < r.Through {
			return false
		}
	}
	return true
}

func (p *pull) wants(pos events.Position) bool {
	r := p.ranges[pos.Partition]
	return r.After < pos.Seq && pos.Seq <= r.Through
}

// wantsMore reports whether the caller wants anything of the partition after the position.
func (p *pull) wantsMore(pos events.Position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.over && p.ranges[pos.Partition].Through > pos.Seq
}

// give lets the caller visit the record. If that panics, only this caller gets the error.
func (p *pull) give(r *logged, contain *panics.Panics) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			p.err, p.over = contain.Recovered(panics.Call, v), true
		}
	}()
	if p.over {
		return
	}
	p.ranges[r.Partition].After = r.Seq
	if p.err = p.visit(r); p.err != nil {
		p.over = true
	}
}

// stop ends the visits; none is under way when it returns.
func (p *pull) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// merge returns for each partition the range that contains both.
func merge(a, b []events.Range) []events.Range {
	union := make([]events.Range, len(a))
	for i := range union {
		switch {
		case b[i].After >= b[i].Through:
			union[i] = a[i]
		case a[i].After >= a[i].Through:
			union[i] = b[i]
		default:
			union[i] = events.Range{
				Partition: a[i].Partition, After: min(a[i].After, b[i].After), Through: max(a[i].Through, b[i].Through),
			}
		}
	}
	return union
}

func length(ranges []events.Range) int64 {
	var n int64
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

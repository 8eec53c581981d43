package poison

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/router"
)

const (
	// maxStuck is how many stuck entries a follower keeps; the others it reads again when there is room.
	maxStuck = 10_000
	// A follower that has much to read, as when the process starts, reads so many records and then lets others go first.
	followRecords = 10_000
	followPause   = 100 * time.Millisecond
)

// Follower knows which entries of a queue were neither replayed nor discarded, without keeping them: it reads every record of
// the queue once, going on where it stopped, and notes a bit for each. Of the entries that are stuck for its handlers it
// keeps where they are. It is safe for concurrent use, so that all who ask in a process share one.
type Follower struct {
	queue    *Queue
	log      pubsub.Log // of the queue
	handlers map[string]string

	mu         sync.Mutex // held while reading
	partitions map[int32]*followed
}

// followed is what is known of a partition of the queue.
type followed struct {
	through int64 // the position up to which it was read
	open    bitmap
	stuck   []stuckEntry // in the order of the queue
	// missed is the position of the first stuck entry that there was no room for; 0 if there was for all.
	missed int64
}

// stuckEntry is an entry that is to be tried again.
type stuckEntry struct {
	at      events.Position // in the queue
	record  events.Position // in the topic
	handler string
	time    time.Time
}

// Follow returns a follower of the topic's queue, which keeps what is stuck for those of the handlers that read the topic. It
// reads when it is asked.
func Follow(bus pubsub.Bus, topic string, handlers []events.Handler) *Follower {
	f := &Follower{
		queue: New(bus, topic), log: bus.Log(events.PoisonTopic(topic)),
		handlers: make(map[string]string), partitions: make(map[int32]*followed),
	}
	for _, h := range handlers {
		if h.Topic == topic {
			f.handlers[h.Name] = h.Name
		}
	}
	return f
}

// Open returns how many entries were neither replayed nor discarded, after reading what is new.
func (f *Follower) Open(ctx context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.catchUp(ctx); err != nil {
		return 0, err
	}
	n := 0
	for _, p := range f.partitions {
		n += p.open.count
	}
	return n, nil
}

// stuck returns the entries that are stuck, of very many the oldest, after reading what is new.
func (f *Follower) stuck(ctx context.Context) ([]stuckEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.catchUp(ctx); err != nil {
		return nil, err
	}
	var all []stuckEntry
	for number, p := range f.partitions {
		p.stuck = slices.DeleteFunc(p.stuck, func(e stuckEntry) bool { return !p.open.has(e.at.Seq) })
		if p.missed > 0 && len(p.stuck) <= maxStuck/2 {
			after := p.missed - 1
			p.missed = 0
			if err := f.read(ctx, number, after, p.through, func(r pubsub.RawRecord) { f.keep(p, r) }); err != nil {
				p.missed = after + 1
				return nil, err
			}
		}
		all = append(all, p.stuck...)
	}
	return all, nil
}

// catchUp reads what has come since the last time. Marks are applied last: they may lie in another partition than the entry.
func (f *Follower) catchUp(ctx context.Context) error {
	end, err := f.log.End(ctx)
	if err != nil {
		return fmt.Errorf("poison queue of %s: %w", f.queue.topic, err)
	}
	for number, through := range end {
		p := f.partitions[number]
		if p == nil || through < p.through || events.EpochStart(through) != events.EpochStart(p.through) {
			p = &followed{through: events.EpochStart(through)} // seen for the first time, or made anew
			p.open.start = p.through
			f.partitions[number] = p
		}
	}
	var replayed []events.Position
	defer func() {
		for _, at := range replayed {
			if p := f.partitions[at.Partition]; p != nil {
				p.open.clear(at.Seq)
			}
		}
	}()
	for number, through := range end {
		p := f.partitions[number]
		err := f.read(ctx, number, p.through, through, func(r pubsub.RawRecord) {
			if id := r.Headers.Get(ReplayedHeader); id != "" {
				if at, err := parseEntryID(id, r.Seq); err == nil {
					replayed = append(replayed, at)
				}
			} else {
				p.open.set(r.Seq)
				f.keep(p, r)
			}
			p.through = r.Seq
		})
		if err != nil {
			return err
		}
		p.through = through
	}
	return nil
}

// read visits what lies between the positions, in portions.
func (f *Follower) read(ctx context.Context, partition int32, after, through int64, visit func(pubsub.RawRecord)) error {
	for after < through {
		portion := events.Range{Partition: partition, After: after, Through: min(after+followRecords, through)}
		err := f.log.Read(ctx, []events.Range{portion}, func(r pubsub.RawRecord) error {
			visit(r)
			return nil
		})
		if err != nil {
			return fmt.Errorf("poison queue of %s: %w", f.queue.topic, err)
		}
		if after = portion.Through; after == through {
			return nil
		}
		select {
		case <-time.After(followPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// keep notes the record if it is an open entry that is stuck for one of the handlers, unless there are too many.
func (f *Follower) keep(p *followed, r pubsub.RawRecord) {
	handler, ours := f.handlers[r.Headers.Get(router.PoisonHandlerHeader)]
	if !ours || !p.open.has(r.Seq) || !strings.HasPrefix(r.Headers.Get(router.PoisonReasonHeader), router.ReasonStuck) {
		return
	}
	record, err := events.ParsePosition(r.Headers.Get(router.PoisonPositionHeader))
	if err != nil {
		return // it cannot be replayed
	}
	if len(p.stuck) >= maxStuck {
		if p.missed == 0 {
			p.missed = r.Seq
		}
		return
	}
	p.stuck = append(p.stuck, stuckEntry{r.Position, record, handler, poisonTime(r.Headers)})
}

// replayed notes at once what the queue will say.
func (f *Follower) replayed(at events.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.partitions[at.Partition]; p != nil {
		p.open.clear(at.Seq)
	}
}

// drop forgets that the entry is stuck, though it is open.
func (f *Follower) drop(at events.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.partitions[at.Partition]; p != nil {
		p.stuck = slices.DeleteFunc(p.stuck, func(e stuckEntry) bool { return e.at == at })
	}
}

// bitmap is a set of positions behind start, a bit each.
type bitmap struct {
	start int64
	words []uint64
	count int
}

func (b *bitmap) set(seq int64) {
	i := seq - b.start
	for int64(len(b.words)) <= i/64 {
		b.words = append(b.words, 0)
	}
	if !b.has(seq) {
		b.words[i/64] |= 1 << (i % 64)
		b.count++
	}
}

func (b *bitmap) clear(seq int64) {
	if b.has(seq) {
		i := seq - b.start
		b.words[i/64] &^= 1 << (i % 64)
		b.count--
	}
}

func (b *bitmap) has(seq int64) bool {
	i := seq - b.start
	return i >= 0 && i/64 < int64(len(b.words)) && b.words[i/64]&(1<<(i%64)) != 0
}

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
	// maxStuck is how many stuck entries a follower keeps. It reads the others again when there is room.
	maxStuck = 10_000
	// A follower that has much to read, for example when the process starts, pauses after this many records so that others
	// can run.
	followRecords = 10_000
	followPause   = 100 * time.Millisecond
)

// Follower knows which entries of a queue were neither replayed nor discarded, without keeping the entries. It reads every
// record of the queue once, goes on where it stopped, and notes one bit for each. It also notes where the entries lie that
// are stuck for its handlers. It is safe for concurrent use, so that all parts of a process can share one.
type Follower struct {
	queue    *Queue
	log      pubsub.Log // the queue's
	handlers map[string]string

	mu         sync.Mutex // held while reading
	partitions map[int32]*followed
}

// followed is what the follower knows of one partition of the queue.
type followed struct {
	through int64 // the position up to which it was read
	open    bitmap
	stuck   []stuckEntry // in the order of the queue
	// missed is the position of the first stuck entry for which there was no room, or 0 if there was room for all.
	missed int64
}

// stuckEntry is an entry that is to be replayed.
type stuckEntry struct {
	at      events.Position // in the queue
	record  events.Position // in the topic
	handler string
	time    time.Time
}

// Follow returns a follower of the topic's queue. It notes the stuck entries of those handlers that read the topic. It reads
// the queue when one of its methods is called.
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

// Open reads what is new and returns how many entries were neither replayed nor discarded.
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

// stuck reads what is new and returns the stuck entries: the oldest ones if there are very many.
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

// catchUp reads what has come since the last call. It applies marks last, because a mark may lie in another partition than
// its entry.
func (f *Follower) catchUp(ctx context.Context) error {
	end, err := f.log.End(ctx)
	if err != nil {
		return fmt.Errorf("poison queue of %s: %w", f.queue.topic, err)
	}
	for number, through := range end {
		p := f.partitions[number]
		if p == nil || through < p.through || events.EpochStart(through) != events.EpochStart(p.through) {
			p = &followed{through: events.EpochStart(through)} // the partition is new here, or was made anew
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

// read visits the records between the positions, in portions.
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
		return // nobody can replay it
	}
	if len(p.stuck) >= maxStuck {
		if p.missed == 0 {
			p.missed = r.Seq
		}
		return
	}
	p.stuck = append(p.stuck, stuckEntry{r.Position, record, handler, poisonTime(r.Headers)})
}

// replayed notes at once that the entry was replayed, before its mark is read from the queue.
func (f *Follower) replayed(at events.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.partitions[at.Partition]; p != nil {
		p.open.clear(at.Seq)
	}
}

// drop stops treating the entry as stuck, although it is open.
func (f *Follower) drop(at events.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.partitions[at.Partition]; p != nil {
		p.stuck = slices.DeleteFunc(p.stuck, func(e stuckEntry) bool { return e.at == at })
	}
}

// bitmap is a set of positions after start, with one bit for each.
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

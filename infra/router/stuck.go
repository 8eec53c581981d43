package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// ReasonStuck begins the reason of a poisoned record whose error is not permanent. The error follows. The router poisons such
// a record so that it does not hold up its partition.
const ReasonStuck = "stuck: "

// park turns a transient error into a permanent one if the record is stuck.
func (c *consumer) park(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		begin, ctx := time.Now(), msg.Context()
		_, err := next(msg)
		d := deliveryOf(msg)
		switch {
		case err == nil:
			if d.outcome == Handled {
				c.failures.handled(d.place)
			}
		case isPermanent(err), errors.Is(err, context.Canceled), ctx.Err() != nil:
		case c.failures.failed(d.place, begin, isReplay(msg)):
			err = events.Permanent(fmt.Errorf(ReasonStuck+"%w", err))
		}
		return nil, err
	}
}

// failures keeps the records that a handler fails on now, at most one in a partition, and tells which are stuck. A record is
// stuck if three things happened one after the other: it failed for as long as the patience lasts, then the handler handled
// another record, then a delivery of the record failed that began after that. This shows that others are free of whatever
// ails the record. So nothing counts as stuck while everything fails, nor right after that.
type failures struct {
	patience time.Duration

	mu      sync.Mutex
	records map[int32]*failure // by partition
}

type failure struct {
	seq    int64
	until  time.Time // when the patience ends
	others time.Time // when another record was first handled after that; zero if none was
}

// failed notes that a delivery which began at the time has failed, and reports whether the record is stuck. A replay comes
// from the poison queue and gets no patience, because it would hold up others for the whole patience each time it comes.
func (f *failures) failed(at events.Position, begin time.Time, replay bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.records[at.Partition]; r != nil && r.seq == at.Seq {
		return !r.others.IsZero() && !begin.Before(r.others)
	}
	until := time.Now()
	if !replay {
		until = until.Add(f.patience)
	}
	f.records[at.Partition] = &failure{seq: at.Seq, until: until}
	return false
}

// handled notes that the handler has handled records.
func (f *failures) handled(at ...events.Position) {
	if len(at) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.records) == 0 {
		return
	}
	for _, pos := range at {
		if r := f.records[pos.Partition]; r != nil && r.seq == pos.Seq {
			delete(f.records, pos.Partition)
		}
	}
	for _, r := range f.records {
		if now := time.Now(); r.others.IsZero() && !now.Before(r.until) {
			r.others = now
		}
	}
}

// forget is called when a partition is taken over, because nobody knows what happened to its records elsewhere.
func (f *failures) forget(partition int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.records, partition)
}

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

// ReasonStuck begins the reason of a record that is in the poison queue although its error is not permanent, so that it
// does not hold up its partition. The error follows.
const ReasonStuck = "stuck: "

// park makes a permanent error of a transient one if the record is stuck.
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

// failures tell of the records that a handler fails on now, at most one in a partition, which are stuck. A record is when
// it has failed for as long as the patience lasts, the handler has handled another one after that, and a delivery fails
// that began later still: whatever ails it, others of the same time are free of it. So nothing is stuck while everything
// fails, nor right after that.
type failures struct {
	patience time.Duration

	mu      sync.Mutex
	records map[int32]*failure // by partition
}

type failure struct {
	seq    int64
	until  time.Time // the end of the patience
	others time.Time // when the first other record was handled after that; zero: none was
}

// failed notes that a delivery has failed, which began at the time given, and reports whether the record is stuck. A replay
// has been in the poison queue and gets no patience: as often as it comes again, it would hold up others for as long.
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

// forget is for a partition that is taken over: what happened to its records elsewhere is not known.
func (f *failures) forget(partition int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.records, partition)
}

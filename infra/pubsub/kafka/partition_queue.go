package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
)

// The records sent at once stay below the million bytes up to which franz-go puts records into one record batch.
const (
	maxBatchRecords = 1000
	maxBatchBytes   = 512 << 10
)

// partitionQueue sends the records of one partition in the order of the calls, one record batch at a time.
type partitionQueue struct {
	publisher *publisher
	at        place

	mu      sync.Mutex
	calls   []*call
	running bool
}

// call is the part of one Publish that goes to one partition. The mutex of the queue guards the fields in the last group.
type call struct {
	ctx     context.Context
	queue   *partitionQueue
	epochs  *events.Epochs // by which its records are to get their positions
	records []*kgo.Record
	indexes []int         // which message of the Publish each record is
	done    chan struct{} // closed when the outcome is known

	taken    int // how many records were passed to the client
	accepted int // how many of these, counted from the first, are in the log
	finished bool
	err      error
}

func newCall(ctx context.Context, q *partitionQueue, epochs *events.Epochs) *call {
	return &call{ctx: ctx, queue: q, epochs: epochs, done: make(chan struct{})}
}

// put queues the call. The publisher's mutex is held, so that all calls are queued in one order and none after the publisher
// is closed.
func (q *partitionQueue) put(c *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls = append(q.calls, c)
	if !q.running {
		q.running = true
		q.publisher.busy.Go(q.run)
	}
}

func (q *partitionQueue) run() {
	for {
		floor, epochs := q.publisher.continuity.floor(q.at)
		calls, records := q.next(epochs)
		if len(records) == 0 {
			return
		}
		// The last call is the most recent one, so the batch gets its deadline.
		results := q.publisher.client.Load().ProduceSync(calls[len(calls)-1].ctx, records...)
		q.settle(calls, q.check(epochs, floor, results))
	}
}

// next takes the records of the next batch from the queue, and refuses calls whose deadline has passed or that were made by
// other epochs. If nothing is left the queue stops running.
func (q *partitionQueue) next(epochs *events.Epochs) (calls []*call, records []*kgo.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for len(q.calls) > 0 {
		c := q.calls[0]
		if err := c.refused(epochs); err != nil {
			q.calls = q.calls[1:]
			c.finish(err)
			continue
		}
		first := len(records)
		for _, r := range c.records[c.taken:] {
			if len(records) > 0 && (len(records) == maxBatchRecords || size+recordSize(r) > maxBatchBytes) {
				break
			}
			size += recordSize(r)
			records = append(records, r)
		}
		if n := len(records) - first; n > 0 {
			c.taken += n
			calls = append(calls, c)
		}
		if c.taken < len(c.records) {
			break
		}
		q.calls = q.calls[1:]
	}
	q.running = len(records) > 0
	return calls, records
}

// check notes the offsets of the results. It turns the results into errors if they show that the partition has lost its end, or
// the epochs have changed since they were those that are passed, because then nobody knows yet which positions the records have.
func (q *partitionQueue) check(epochs *events.Epochs, floor int64, results kgo.ProduceResults) kgo.ProduceResults {
	first, next := results[0], int64(0)
	if first.Err != nil || first.Record.Offset < 0 {
		return results
	}
	for _, r := range results {
		if r.Err == nil {
			next = r.Record.Offset + 1
		}
	}
	if err := q.publisher.continuity.got(q.at, epochs, floor, first.Record.Offset, next); err != nil {
		for i := range results {
			results[i].Err = err
		}
	}
	return results
}

// settle notes in the calls what became of the batch. A call with records left goes on with the next batch.
func (q *partitionQueue) settle(calls []*call, results kgo.ProduceResults) {
	err := results.FirstErr()
	var accepted map[*kgo.Record]bool // nil: all of them
	if err != nil {
		accepted = make(map[*kgo.Record]bool, len(results))
		for _, r := range results {
			accepted[r.Record] = r.Err == nil
		}
	}
	q.publisher.topics.published(results)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range calls {
		for c.accepted < c.taken && (accepted == nil || accepted[c.records[c.accepted]]) {
			c.accepted++
		}
		switch {
		case c.accepted == len(c.records):
			c.finish(nil)
		case c.accepted < c.taken:
			q.calls = slices.DeleteFunc(q.calls, func(queued *call) bool { return queued == c })
			c.finish(err)
		}
	}
}

// refused returns why nothing of the call is sent any more, or nil.
func (c *call) refused(epochs *events.Epochs) error {
	if err := c.ctx.Err(); err != nil {
		return fmt.Errorf("%w: not sent", err)
	}
	if c.epochs != epochs {
		return errChanged
	}
	return nil
}

func (c *call) finish(err error) {
	c.finished, c.err = true, err
	c.queue.publisher.pending.Add(-int64(len(c.records)))
	close(c.done)
}

// wait returns how many records, counted from the first, are in the log, and the reason if that is not all of them. If the
// context ends before anything was sent, nothing of the call will be sent. The outcome of what was sent is unknown.
func (c *call) wait(ctx context.Context) (accepted int, err error) {
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	switch {
	case c.finished:
		return c.accepted, c.err
	case c.taken == 0:
		return 0, fmt.Errorf("%w: not sent", ctx.Err())
	}
	return c.accepted, errUnknownOutcome
}

func recordSize(r *kgo.Record) int {
	size := len(r.Key) + len(r.Value) + 32
	for _, h := range r.Headers {
		size += len(h.Key) + len(h.Value) + 8
	}
	return size
}

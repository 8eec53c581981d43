package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A batch stays below the million bytes up to which franz-go puts records into one record batch.
const (
	maxBatchRecords = 1000
	maxBatchBytes   = 512 << 10
)

// lane sends the records of one partition, a batch at a time, in the order of the calls.
type lane struct {
	publisher *publisher

	mu      sync.Mutex
	queue   []*call
	running bool
}

// call is what one Publish has for one partition. The lane's mutex guards what is below it.
type call struct {
	ctx     context.Context
	lane    *lane
	records []*kgo.Record
	done    chan struct{} // closed when the outcome is known

	taken    int // records that were handed to the client
	accepted int // of these, from the first
	finished bool
	err      error
}

func newCall(ctx context.Context, l *lane) *call {
	return &call{ctx: ctx, lane: l, done: make(chan struct{})}
}

// put queues the call. The publisher's mutex is held, so that calls are queued in one order and none after the end.
func (l *lane) put(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, c)
	if !l.running {
		l.running = true
		l.publisher.busy.Go(l.run)
	}
}

func (l *lane) run() {
	for {
		calls, records := l.next()
		if len(records) == 0 {
			return
		}
		// The last call is the youngest: its deadline is the batch's.
		at := place{records[0].Topic, records[0].Partition}
		floor := l.publisher.continuity.floor(at)
		results := l.publisher.client.ProduceSync(calls[len(calls)-1].ctx, records...)
		l.settle(calls, l.doubt(at, floor, results))
	}
}

// next takes the next batch from the queue, refusing calls whose time is up. Without any the lane stops running.
func (l *lane) next() (calls []*call, records []*kgo.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := 0
	for len(l.queue) > 0 {
		c := l.queue[0]
		if err := c.ctx.Err(); err != nil {
			l.queue = l.queue[1:]
			c.finish(fmt.Errorf("%w: not sent", err))
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
		l.queue = l.queue[1:]
	}
	l.running = len(records) > 0
	return calls, records
}

// doubt makes errors of results that tell that the partition has lost its end: then it is not known yet which position a
// record has.
func (l *lane) doubt(at place, floor int64, results kgo.ProduceResults) kgo.ProduceResults {
	if first := results[0]; first.Err == nil && first.Record.Offset >= 0 && first.Record.Offset < floor {
		err := l.publisher.continuity.suspect(at, first.Record.Offset)
		for i := range results {
			results[i].Err = err
		}
	}
	return results
}

// settle tells the calls what became of the batch. A call with records left goes on with the next one.
func (l *lane) settle(calls []*call, results kgo.ProduceResults) {
	accepted := make(map[*kgo.Record]bool, len(results))
	for _, r := range results {
		if r.Err == nil {
			accepted[r.Record] = true
		}
	}
	l.publisher.topics.published(results)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range calls {
		for c.accepted < c.taken && accepted[c.records[c.accepted]] {
			c.accepted++
		}
		switch {
		case c.accepted == len(c.records):
			c.finish(nil)
		case c.accepted < c.taken:
			l.queue = slices.DeleteFunc(l.queue, func(queued *call) bool { return queued == c })
			c.finish(results.FirstErr())
		}
	}
}

func (c *call) finish(err error) {
	c.finished, c.err = true, err
	c.lane.publisher.pending.Add(-int64(len(c.records)))
	close(c.done)
}

// wait answers how many records, from the first, are in the log, and why not all. When the time is up before anything was
// sent, nothing will be; the outcome of what was sent is unknown.
func (c *call) wait(ctx context.Context) (accepted int, err error) {
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.lane.mu.Lock()
	defer c.lane.mu.Unlock()
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

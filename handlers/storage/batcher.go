package storage

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"millrace/events"
)

const (
	maxBatch    = 2048
	saveTimeout = 5 * time.Second

	// After a commit the batcher rests restFactor times as long as the commit took, but at most longestRest, and not while maxBatch
	// records wait. What comes meanwhile shares the pages that the next commit writes, and its sync. Alone, a record waits a few
	// milliseconds at most; where all processors are busy, they store a message at two thirds of the cost.
	restFactor  = 3
	longestRest = 100 * time.Millisecond
)

// batcher collects the records that wait to be saved. One goroutine saves them, one batch at a time.
type batcher struct {
	store Store
	log   *slog.Logger

	mu      sync.Mutex
	waiting []*job
	stopped bool
	saved   map[int32]int64 // by partition, the stored position as far as this process knows
	passed  map[int32]int64 // by partition, the position after that up to which everything is done with

	wake chan struct{} // holds one token while there is something to do
	done chan struct{}
}

// job is a waiting call: the records of one partition, in order.
type job struct {
	ctx     context.Context //nolint:containedctx // tells whether the caller still waits, and which trace it belongs to
	records []events.Record
	results chan []error
}

func (j *job) refuse(err error) { j.results <- slices.Repeat([]error{err}, len(j.records)) }

func newBatcher(store Store, log *slog.Logger) *batcher {
	return &batcher{
		store: store, log: log, wake: make(chan struct{}, 1), done: make(chan struct{}),
		saved: make(map[int32]int64), passed: make(map[int32]int64),
	}
}

// save waits until the record is saved. If the context ends first, the record may be saved all the same.
func (b *batcher) save(ctx context.Context, r events.Record) error {
	return b.saveAll(ctx, []events.Record{r})[0]
}

// saveAll is like save for several records of one partition, which are saved in one transaction.
func (b *batcher) saveAll(ctx context.Context, records []events.Record) []error {
	j := &job{ctx: ctx, records: records, results: make(chan []error, 1)}
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		j.refuse(ErrStopped)
	} else {
		b.waiting = append(b.waiting, j)
		b.mu.Unlock()
		b.signal()
	}
	select {
	case errs := <-j.results:
		return errs
	case <-ctx.Done():
		return slices.Repeat([]error{fmt.Errorf("storage: %w", ctx.Err())}, len(records))
	}
}

func (b *batcher) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *batcher) stop(ctx context.Context) error {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.signal()
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("storage: stop: %w", ctx.Err())
	}
}

func (b *batcher) run() {
	defer close(b.done)
	for range b.wake {
		for {
			// Let goroutines that are about to add records join the batch.
			runtime.Gosched()
			jobs, stopped := b.take()
			if stopped {
				b.advance()
				return
			}
			if len(jobs) == 0 {
				break
			}
			began := time.Now()
			b.saveJobs(jobs)
			b.rest(restFactor * time.Since(began))
		}
		b.advance()
	}
}

// rest waits until the time is over, maxBatch records wait, or the batcher is stopped.
func (b *batcher) rest(atMost time.Duration) {
	over := time.NewTimer(min(atMost, longestRest))
	defer over.Stop()
	for !b.urgent() {
		select {
		case <-over.C:
			return
		case <-b.wake:
		}
	}
}

// urgent reports whether the batcher is not to wait for more.
func (b *batcher) urgent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting := 0
	for _, j := range b.waiting {
		waiting += len(j.records)
	}
	return b.stopped || waiting >= maxBatch
}

// take removes the next batch from the waiting jobs, leaving out those whose callers have given up. Once the batcher is
// stopped, it refuses all of them.
func (b *batcher) take() (jobs []*job, stopped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		for _, j := range b.waiting {
			j.refuse(ErrStopped)
		}
		b.waiting = nil
		return nil, true
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(j *job) bool { return j.ctx.Err() != nil })
	n, records := 0, 0
	for n < len(b.waiting) && (n == 0 || records+len(b.waiting[n].records) <= maxBatch) {
		records += len(b.waiting[n].records)
		n++
	}
	jobs = slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	slices.SortStableFunc(jobs, func(x, y *job) int {
		first, second := x.records[0], y.records[0]
		return cmp.Or(cmp.Compare(first.Partition, second.Partition), cmp.Compare(first.Seq, second.Seq))
	})
	return jobs, false
}

func (b *batcher) saveJobs(jobs []*job) {
	n := 0
	for _, j := range jobs {
		n += len(j.records)
	}
	batch := make([]events.Record, 0, n)
	for _, j := range jobs {
		batch = append(batch, j.records...)
	}
	ctx, span := startCommit(jobs, n)
	results := b.saveBatch(ctx, batch)
	endCommit(span, results)
	saved := make(map[int32]int64)
	for i, r := range batch {
		if results[i] == nil {
			saved[r.Partition] = max(saved[r.Partition], r.Seq)
		}
	}
	b.mu.Lock()
	b.reached(saved)
	b.mu.Unlock()
	for _, j := range jobs {
		j.results <- results[:len(j.records)]
		results = results[len(j.records):]
	}
}

// settled notes that the record at the position is done with. The store already counts a record that it has saved; of one
// that was skipped or poisoned the batcher tells it, so that it does not wait for a record that never comes.
func (b *batcher) settled(pos events.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if pos.Seq <= b.saved[pos.Partition] {
		return
	}
	b.passed[pos.Partition] = pos.Seq
	b.signal()
}

// advance tells the store up to where everything is done with. After a failure, the next call to advance or save makes up for
// it.
func (b *batcher) advance() {
	b.mu.Lock()
	passed := maps.Clone(b.passed)
	b.mu.Unlock()
	if len(passed) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	if err := b.store.Advance(ctx, passed); err != nil {
		b.log.Warn("the store cannot be told how far all is done with", "error", err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reached(passed)
}

// reached notes the stored positions. The mutex is held.
func (b *batcher) reached(positions map[int32]int64) {
	for p, seq := range positions {
		b.saved[p] = max(b.saved[p], seq)
		if b.passed[p] <= b.saved[p] {
			delete(b.passed, p)
		}
	}
}

// saveBatch returns one result for each record, whatever the store does. If the store panics, saveBatch tries each record
// alone, so that only the record that causes the panic fails for good.
func (b *batcher) saveBatch(ctx context.Context, batch []events.Record) (results []error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		err := fmt.Errorf("store panicked: %v", v)
		b.log.Error("store panicked", "batch", len(batch), "stack", string(debug.Stack()))
		if len(batch) == 1 {
			results = []error{events.Permanent(err)}
			return
		}
		results = nil
		for i := range batch {
			results = append(results, b.saveBatch(ctx, batch[i:i+1])...)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	results = b.store.SaveBatch(ctx, batch)
	if len(results) != len(batch) {
		err := fmt.Errorf("store answered %d results for %d records", len(results), len(batch))
		return slices.Repeat([]error{err}, len(batch))
	}
	return results
}

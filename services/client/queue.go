package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// call is a request that has not been answered yet.
type call struct {
	ctx     context.Context // the caller's context; when it ends the call is given up
	req     Request
	body    []byte       // the request as JSON
	ordered *targetQueue // the queue of its target; nil for what needs no order
	n       uint64

	refused atomic.Pointer[Error] // the latest unavailable

	done  chan struct{} // closed once frame or err holds the outcome
	frame Frame
	err   error
}

func (k *call) finish(f Frame, err error) {
	k.frame, k.err = f, err
	close(k.done)
}

// wait returns the outcome, at the latest when the caller's context ends.
func (k *call) wait() (Frame, error) {
	select {
	case <-k.done:
		return k.frame, k.err
	case <-k.ctx.Done():
	}
	select {
	case <-k.done: // at the same moment
		return k.frame, k.err
	default:
		return Frame{}, k.gaveUp()
	}
}

// gaveUp returns the error of a call whose context ended. The last error of the server explains it best.
func (k *call) gaveUp() error {
	if refused := k.refused.Load(); refused != nil {
		return fmt.Errorf("%s: %w, last answer: %w", k.req.verb(), context.Cause(k.ctx), refused)
	}
	return fmt.Errorf("%s: no answer: %w", k.req.verb(), context.Cause(k.ctx))
}

// targetQueue keeps the sends to one target in order. After an error that asks to try again it is held: it sends one at a
// time, after a pause, until one is accepted.
type targetQueue struct {
	target Target
	calls  int // those without an answer
	flying int
	held   bool
	tries  int
	until  time.Time
}

// queue holds the calls without an answer: those that wait to be written, in the order in which they were made, and those
// that were written to the present connection. When a connection breaks, all of them wait again.
type queue struct {
	window int // sends to one target in flight; 0: no limit
	pause  Backoff

	mu      sync.Mutex
	made    uint64
	lastID  int64
	waiting []*call
	flying  map[int64]*call
	targets map[Target]*targetQueue
	closed  error

	wake chan struct{} // has an element when the writer should look again
}

func newQueue(window int, pause Backoff) *queue {
	return &queue{
		window: window, pause: pause, lastID: connectID,
		flying: map[int64]*call{}, targets: map[Target]*targetQueue{}, wake: make(chan struct{}, 1),
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) add(ctx context.Context, r Request) *call {
	body, err := encodeBody(r)
	k := &call{ctx: ctx, req: r, body: body, done: make(chan struct{})}
	if err != nil {
		k.finish(Frame{}, err)
		return k
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		k.finish(Frame{}, q.closed)
		return k
	}
	q.made++
	k.n = q.made
	if s, ok := r.(Send); ok {
		k.ordered = q.targets[s.Target]
		if k.ordered == nil {
			k.ordered = &targetQueue{target: s.Target}
			q.targets[s.Target] = k.ordered
		}
		k.ordered.calls++
	}
	q.waiting = append(q.waiting, k)
	q.signal()
	return k
}

// next returns the call to write now and the id to write it under. If there is none it returns how long to wait at most; 0
// means until woken.
func (q *queue) next(now time.Time) (*call, int64, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var wait time.Duration
	for i := 0; i < len(q.waiting); i++ {
		k := q.waiting[i]
		if k.ctx.Err() != nil {
			q.waiting = slices.Delete(q.waiting, i, i+1)
			i--
			q.leave(k, Frame{}, k.gaveUp())
			continue
		}
		if l := k.ordered; l != nil {
			if q.window > 0 && l.flying >= q.window || l.held && l.flying > 0 {
				continue
			}
			if left := l.until.Sub(now); l.held && left > 0 {
				if wait == 0 || left < wait {
					wait = left
				}
				continue
			}
			l.flying++
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.lastID++
		q.flying[q.lastID] = k
		return k, q.lastID, 0
	}
	return nil, 0, wait
}

// answer ends the call that the frame answers, or puts it back if it is a send to be repeated. It reports whether there was
// such a call.
func (q *queue) answer(f Frame, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.flying[f.ID]
	if k == nil {
		return f.ID > 0 && f.ID <= q.lastID
	}
	delete(q.flying, f.ID)
	defer q.signal()
	if k.ordered != nil {
		k.ordered.flying--
		if f.Error != nil && f.Error.Code == Unavailable {
			k.refused.Store(f.Error)
			k.ordered.held = true
			k.ordered.until = now.Add(q.pause.wait(k.ordered.tries))
			k.ordered.tries++
			q.putBack(k)
			return true
		}
		if f.Sent != nil {
			k.ordered.held, k.ordered.tries = false, 0
		}
	}
	if f.Error != nil {
		q.leave(k, f, fmt.Errorf("%s: %w", k.req.verb(), f.Error))
	} else {
		q.leave(k, f, nil)
	}
	return true
}

// lost puts back all calls that were written, to be repeated in their order.
func (q *queue) lost() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, k := range q.flying {
		delete(q.flying, id)
		if k.ordered != nil {
			k.ordered.flying--
		}
		q.putBack(k)
	}
}

func (q *queue) putBack(k *call) {
	i, _ := slices.BinarySearchFunc(q.waiting, k.n, func(w *call, n uint64) int { return cmp.Compare(w.n, n) })
	q.waiting = slices.Insert(q.waiting, i, k)
}

// leave ends a call that is in neither list any more.
func (q *queue) leave(k *call, f Frame, err error) {
	if l := k.ordered; l != nil {
		if l.calls--; l.calls == 0 {
			delete(q.targets, l.target)
		}
	}
	k.finish(f, err)
}

// close ends all calls, including those made later.
func (q *queue) close(err error) {
	q.lost()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = err
	for _, k := range q.waiting {
		q.leave(k, Frame{}, fmt.Errorf("%s: %w", k.req.verb(), err))
	}
	q.waiting = nil
}

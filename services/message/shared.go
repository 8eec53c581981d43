package message

import (
	"context"
	"sync"
	"time"

	"millrace/infra/panics"
)

// shared reads once for all who wait: every caller gets a reading that started after its call. While one reading is under
// way, at most one more is due.
type shared[T any] struct {
	tasks   *tasks
	every   time.Duration // the least time from one start to the next
	timeout time.Duration
	read    func(context.Context) (T, error)

	mu      sync.Mutex
	next    *reading[T]
	running bool
	last    time.Time
}

type reading[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func newShared[T any](
	t *tasks, every, timeout time.Duration, read func(context.Context) (T, error),
) *shared[T] {
	return &shared[T]{tasks: t, every: every, timeout: timeout, read: read}
}

// get returns the value of a reading that starts after the call. Several callers share the value, so nobody may change it.
func (s *shared[T]) get(ctx context.Context) (T, error) {
	r := s.join()
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// start starts a reading that nobody waits for, unless one is under way.
func (s *shared[T]) start() {
	s.mu.Lock()
	running := s.running
	s.mu.Unlock()
	if !running {
		s.join()
	}
}

func (s *shared[T]) join() *reading[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		return s.next
	}
	r := &reading[T]{done: make(chan struct{})}
	s.next = r
	if !s.running {
		if s.running = s.tasks.start(s.run); !s.running {
			s.next = nil
			r.err = errClosed
			close(r.done)
		}
	}
	return r
}

func (s *shared[T]) run(ctx context.Context) {
	for {
		s.mu.Lock()
		if s.next == nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		pause := s.every - time.Since(s.last)
		s.mu.Unlock()
		sleep(ctx, pause)

		s.mu.Lock()
		r := s.next
		s.next, s.last = nil, time.Now()
		s.mu.Unlock()
		r.value, r.err = s.once(ctx)
		close(r.done)
	}
}

// once reads. If that panics, all who wait get the error, and later callers a reading of their own.
func (s *shared[T]) once(ctx context.Context) (value T, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if panicked := s.tasks.panics.Do(panics.Call, func() { value, err = s.read(ctx) }); panicked != nil {
		return value, panicked
	}
	return value, err
}

// sleep waits for d or for the end of the context.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

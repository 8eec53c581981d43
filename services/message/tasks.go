package message

import (
	"context"
	"errors"
	"sync"

	"millrace/infra/panics"
)

var errClosed = errors.New("the message service is closed")

// tasks owns the goroutines that outlive the call that has started them.
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc
	panics *panics.Panics // contains panics in work that several calls wait for

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newTasks() *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// start runs f and reports true, or reports false if the service is closed.
func (t *tasks) start(f func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(func() { f(t.ctx) })
	return true
}

func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
}

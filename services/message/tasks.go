package message

import (
	"context"
	"errors"
	"sync"

	"millrace/infra/panics"
)

var errClosed = errors.New("the message service is closed")

// tasks owns the goroutines that outlive the call that started them.
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc
	panics *panics.Panics // contains what fails for all who wait together

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newTasks() *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// start runs f unless the service is closed; then it reports false.
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

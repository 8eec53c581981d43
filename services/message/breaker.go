package message

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// storeTimeout is how long a call that can do without the store waits for it.
const storeTimeout = time.Second

var errStoreDown = errors.New("the store does not answer")

// breaker remembers that the store has failed, so that many calls do not each wait for it.
type breaker struct {
	mu    sync.Mutex
	until time.Time
}

// call runs f within storeTimeout. After a failure every call returns errStoreDown for storePause.
func (b *breaker) call(ctx context.Context, f func(ctx context.Context) error) error {
	b.mu.Lock()
	open := time.Now().Before(b.until)
	b.mu.Unlock()
	if open {
		return errStoreDown
	}
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := f(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	b.mu.Lock()
	b.until = time.Now().Add(storePause)
	b.mu.Unlock()
	return fmt.Errorf("%w: %w", errStoreDown, err)
}

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// answerWithin is how long a probe waits for the checks. Kubernetes gives a probe up after a second.
const answerWithin = 800 * time.Millisecond

// Check finds out whether something that the process needs is ready.
type Check struct {
	Name  string
	Ready func(context.Context) error
}

// Checks are what /readyz asks. They can be added at any time, so that a process can be probed while it starts. The zero
// value has no checks, and is ready.
type Checks struct {
	mu  sync.Mutex
	all []*sharedCheck
}

// Add adds checks.
func (c *Checks) Add(checks ...Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, check := range checks {
		c.all = append(c.all, &sharedCheck{Check: check})
	}
}

// Ready asks all checks at once and returns an error that names those which are not ready or do not respond within
// answerWithin.
func (c *Checks) Ready(ctx context.Context) error {
	c.mu.Lock()
	all := c.all[:len(c.all):len(c.all)]
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	faults := make([]error, len(all))
	var asking sync.WaitGroup
	for i, check := range all {
		asking.Go(func() {
			if err := check.ask(ctx); err != nil {
				faults[i] = fmt.Errorf("%s: %w", check.Name, err)
			}
		})
	}
	asking.Wait()
	return errors.Join(faults...)
}

// sharedCheck runs a check at most once at a time. Probes that come meanwhile share its result, so that probes of something
// that hangs do not pile up.
type sharedCheck struct {
	Check
	probes singleflight.Group
}

func (c *sharedCheck) ask(ctx context.Context) error {
	result := c.probes.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		defer cancel()
		return nil, c.Ready(ctx)
	})
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("no answer within %s", answerWithin)
	}
}

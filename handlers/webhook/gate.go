package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// tolerance is how many requests in a row may fail before the endpoint is left alone for a while. Of an endpoint that fails
	// half of the time, so many fail in a row once in a thousand requests.
	tolerance = 10
	// The endpoint is left alone for about a second, then for twice as long each time, up to a minute.
	firstPause   = time.Second
	longestPause = time.Minute
	// longestWish bounds what the endpoint may ask for in Retry-After.
	longestWish = time.Hour
	// hold is how long a record waits for an endpoint that is left alone before it is given back to the router.
	hold = 2 * time.Second
	// lookAgain is how often the store is asked whether the endpoint is disabled.
	lookAgain = 5 * time.Second
)

// ErrHeld is returned for what was not sent because the server is left alone. It is a cancellation, which the router takes
// to say nothing about the record: the record comes again, for ever, and never counts as stuck.
var ErrHeld = fmt.Errorf("the endpoint is left alone for now: %w", context.Canceled)

// gate says when requests to an endpoint may begin. After some failures in a row it lets one request through at a time, with
// growing pauses, until one succeeds. While the endpoint is disabled it lets none through.
type gate struct {
	name     string
	disabled func(context.Context) (bool, error)

	mu       sync.Mutex
	failures int       // in a row
	pauses   int       // in a row
	until    time.Time // nothing is let through until then
	probing  bool      // one request was let through, and the others wait for its outcome
	why      error     // the last failure
	gone     bool
	looked   time.Time
	changed  chan struct{} // closed and replaced when the endpoint is all right again
}

func newGate(name string, disabled func(context.Context) (bool, error)) *gate {
	return &gate{name: name, disabled: disabled, changed: make(chan struct{})}
}

// enter waits until a request may begin. It returns ErrHeld if that is not within the time that a record may be held, or not
// early enough to leave the request its time before the context's deadline.
func (g *gate) enter(ctx context.Context, request time.Duration) error {
	latest := time.Now().Add(hold)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-request).Before(latest) {
		latest = deadline.Add(-request)
	}
	for {
		left := time.Until(latest)
		if left < 0 {
			return ErrHeld
		}
		g.look(ctx)
		opens, changed := g.try(request)
		switch {
		case opens.IsZero():
			return nil
		case left == 0:
			return ErrHeld
		}
		select {
		case <-time.After(min(left, time.Until(opens))):
		case <-changed:
		case <-ctx.Done():
			return ErrHeld
		}
	}
}

// try returns the zero time if a request may begin now, else when it is worth trying again.
func (g *gate) try(request time.Duration) (opens time.Time, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case g.gone:
		return now.Add(hold), g.changed
	case now.Before(g.until):
		return g.until, g.changed
	case g.pauses > 0:
		g.probing, g.until = true, now.Add(request)
	}
	return time.Time{}, nil
}

// look asks the store from time to time whether the endpoint is disabled. While the store does not answer, what was known
// holds.
func (g *gate) look(ctx context.Context) {
	g.mu.Lock()
	due := time.Since(g.looked) >= lookAgain
	if due {
		g.looked = time.Now()
	}
	g.mu.Unlock()
	if !due {
		return
	}
	gone, err := g.disabled(ctx)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone && !gone {
		g.open()
	}
	g.gone = gone
}

// close lets nothing through any more, because the endpoint was disabled. It reports whether that is new.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.gone
	g.gone, g.looked = true, time.Now()
	return !before
}

// succeeded notes that the endpoint has answered, and reports whether it was left alone before.
func (g *gate) succeeded() (again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	again = g.pauses > 0
	g.open()
	return again
}

// open needs mu.
func (g *gate) open() {
	if g.pauses > 0 || g.gone {
		close(g.changed)
		g.changed = make(chan struct{})
	}
	g.failures, g.pauses, g.until, g.probing, g.why = 0, 0, time.Time{}, false, nil
}

// failed notes that a request has failed, and returns for how long the endpoint is left alone from now on, or 0 if that is as
// before. The endpoint may have asked for a time.
func (g *gate) failed(why error, asked time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures++
	g.why = why
	now := time.Now()
	wish := min(asked, longestWish)
	if wish == 0 && (g.failures < tolerance || now.Before(g.until) && !g.probing) {
		return 0 // or it began before the endpoint was left alone
	}
	pause := min(firstPause<<min(g.pauses, 10), longestPause)
	pause = max(pause/2+rand.N(pause/2+1), wish)
	g.pauses, g.probing, g.until = g.pauses+1, false, now.Add(pause)
	return pause
}

// ready returns why the endpoint gets nothing now, or nil.
func (g *gate) ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.gone:
		return errors.New("webhook " + g.name + " is disabled, because it has answered 410 Gone: `millrace webhook enable " + g.name + "` enables it")
	case g.pauses > 0:
		return fmt.Errorf("webhook %s fails: %w", g.name, g.why)
	}
	return nil
}

// isDisabled reports whether the endpoint is disabled.
func (g *gate) isDisabled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

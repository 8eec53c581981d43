package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/infra/telemetry"
)

const (
	// firstLook and lookTimeout together are less than the two seconds within which the log says what the process waits for.
	firstLook   = 500 * time.Millisecond
	lookTimeout = time.Second
	// lookAgain is the pause between looks, and sayAgain that between log lines while nothing changes.
	lookAgain = time.Second
	sayAgain  = 30 * time.Second
)

// waits is what the process waits for while it starts. The log and /readyz say what that is, where it should be and why it is
// not there.
type waits struct {
	log *slog.Logger

	mu  sync.Mutex
	why map[string]error // by what is waited for
}

func newWaits(log *slog.Logger, checks *checks) *waits {
	w := &waits{log: log, why: make(map[string]error)}
	checks.Add(telemetry.Check{Name: "start", Ready: w.ready})
	return w
}

func (w *waits) ready(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []error
	for _, what := range slices.Sorted(maps.Keys(w.why)) {
		all = append(all, fmt.Errorf("waiting for %s: %w", what, w.why[what]))
	}
	return errors.Join(all...)
}

func (w *waits) set(what string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why[what] = why
}

// places returns the addresses (host:port each) of what the process waits for, or why they are not known now.
type places func(context.Context) ([]string, error)

// at returns the addresses as places.
func at(addresses []string) places {
	return func(context.Context) ([]string, error) { return addresses, nil }
}

// until calls start, which returns once it has what it needs at the places or fails for good. Meanwhile until tries to find
// out what is wrong with the places, and reports it.
func (w *waits) until(ctx context.Context, what string, where places, start func() error) error {
	looking, stop := context.WithCancel(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { w.look(looking, what, where) })
	err := start()
	stop()
	looks.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, waited := w.why[what]; waited && err == nil {
		w.log.InfoContext(ctx, "the wait is over", "for", what)
	}
	delete(w.why, what)
	return err
}

func (w *waits) look(ctx context.Context, what string, where places) {
	var said string
	var at time.Time
	for pause := firstLook; ; pause = lookAgain {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		addresses, why := reach(ctx, where)
		if ctx.Err() != nil {
			return
		}
		w.set(what, why)
		if why.Error() != said || time.Since(at) >= sayAgain {
			said, at = why.Error(), time.Now()
			w.log.WarnContext(ctx, "waiting", "for", what, "at", addresses, "error", why)
		}
	}
}

// reach connects to the places. It returns why nobody responds there, or says that the connection is not the problem.
func reach(ctx context.Context, where places) (addresses []string, why error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	addresses, err := where(ctx)
	if err != nil {
		return nil, err
	}
	faults := make([]string, len(addresses))
	var dialling sync.WaitGroup
	for i, address := range addresses {
		dialling.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				faults[i] = err.Error()
				return
			}
			_ = conn.Close() // nothing was written
			faults[i] = address + " accepts connections but has not given what is asked for yet"
		})
	}
	dialling.Wait()
	return addresses, errors.New(strings.Join(faults, "; "))
}

package cluster

import (
	"context"
	"math/rand/v2"
	"time"
)

// The shortest and the longest pause before a failed call is tried again.
const (
	ShortPause = 50 * time.Millisecond
	LongPause  = 2 * time.Second
)

// Sleep waits. It reports false if the context ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Jitter returns a random duration from d to twice d, so that many do not do the same thing at the same time.
func Jitter[D ~int64](d D) D { return d + D(rand.Int64N(int64(d)+1)) }

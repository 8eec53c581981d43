package cluster

import (
	"context"
	"math/rand/v2"
	"time"
)

// The shortest and the longest pause before something that failed is tried again.
const (
	ShortPause = 50 * time.Millisecond
	LongPause  = 2 * time.Second
)

// Sleep reports false if the context ended first.
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

// Jitter spreads what many would do at the same time: from d to twice d.
func Jitter[D ~int64](d D) D { return d + D(rand.Int64N(int64(d)+1)) }

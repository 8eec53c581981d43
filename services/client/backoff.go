package client

import (
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait before trying again: at most Min, doubled with each try up to Max, half of it by chance, so
// that clients that lost their server together do not come back together.
type Backoff struct {
	Min, Max time.Duration
	// GoingAway bounds the wait after a server said that it is going away: any time up to it.
	GoingAway time.Duration
}

func (b Backoff) withDefaults() Backoff {
	if b.Min <= 0 {
		b.Min = 100 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 10 * time.Second
	}
	if b.GoingAway <= 0 {
		b.GoingAway = 5 * time.Second
	}
	return b
}

func (b Backoff) wait(tries int) time.Duration {
	d := b.Max
	if tries < 20 { // beyond, the shift would leave any sensible Max behind
		d = min(b.Max, b.Min<<tries)
	}
	return d/2 + rand.N(d/2+1)
}

package client

import (
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before trying again. The wait is at most Min, doubled with each try up to Max. Half of it is
// random, so that clients that lost their server at the same time do not come back at the same time.
type Backoff struct {
	Min, Max time.Duration
	// GoingAway bounds the random wait after a server has said that it is going away.
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
	if tries < 20 { // beyond that the shift would exceed any sensible Max
		d = min(b.Max, b.Min<<tries)
	}
	return d/2 + rand.N(d/2+1)
}

package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// garbage is how many bytes Go may allocate between two garbage collections, or a quarter of what lives if that is more. Go's own
// rule, a percentage of what lives, fits no process that may have a hundred connections or a hundred thousand: what lives is
// little compared with what passes through, so that a low percentage makes Go collect all the time, and a high one makes many
// idle connections take several times the memory that they need.
const (
	garbage      = 64 << 20
	leastPercent = 25
)

// boundGarbage sets the percentage anew after each garbage collection, which it notices by an object that nobody refers to. It
// does so until stop is called.
func boundGarbage() (stop func()) {
	var stopped atomic.Bool
	percent := 0
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	var adjust func(struct{})
	adjust = func(struct{}) {
		if stopped.Load() {
			return
		}
		metrics.Read(samples)
		live := uint64(1)
		for _, s := range samples {
			live += s.Value.Uint64()
		}
		wanted := int(min(max(garbage*100/live, leastPercent), 1000))
		if wanted*10 < percent*9 || wanted*10 > percent*11 {
			percent = wanted
			debug.SetGCPercent(percent)
		}
		runtime.AddCleanup(new([32]byte), adjust, struct{}{})
	}
	adjust(struct{}{})
	return func() { stopped.Store(true) }
}

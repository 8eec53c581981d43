package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// Go collects garbage when as much was allocated as this process allocates in garbagePeriod, but at least leastGarbage and at
// most mostGarbage, or a quarter of what lives if that is more. Go's own rule, a percentage of what lives, fits no process that
// may have a hundred busy connections or a hundred thousand idle ones. With few, what lives is little compared with what passes
// through, and a low percentage makes Go collect all the time. With many, a high one makes idle connections take several times
// the memory that they need.
const (
	garbagePeriod = 500 * time.Millisecond
	leastGarbage  = 64 << 20
	mostGarbage   = 256 << 20
	leastPercent  = 25
	// goMinimum is what Go takes for what lives if less does.
	goMinimum = 4 << 20
)

// boundGarbage sets the percentage anew after each garbage collection, which it notices by an object that nobody refers to. It
// does so until stop is called.
func boundGarbage() (stop func()) {
	var stopped atomic.Bool
	percent := 0
	before, at := int64(0), time.Now()
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	var adjust func(struct{})
	adjust = func(struct{}) {
		if stopped.Load() {
			return
		}
		metrics.Read(samples)
		allocated, now := int64(samples[0].Value.Uint64()), time.Now()
		rate := float64(allocated-before) / max(now.Sub(at), time.Millisecond).Seconds()
		before, at = allocated, now
		live := int64(0)
		for _, s := range samples[1:] {
			live += int64(s.Value.Uint64())
		}
		live = max(live, goMinimum)
		garbage := min(max(int64(rate*garbagePeriod.Seconds()), leastGarbage), mostGarbage)
		wanted := int(max(garbage*100/live, leastPercent))
		if wanted*10 < percent*9 || wanted*10 > percent*11 {
			percent = wanted
			debug.SetGCPercent(percent)
		}
		runtime.AddCleanup(new([32]byte), adjust, struct{}{})
	}
	adjust(struct{}{})
	return func() { stopped.Store(true) }
}

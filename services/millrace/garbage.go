package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Go collects garbage when as much was allocated as this process allocates in garbagePeriod, but at least leastGarbage and at
// most mostGarbage, or a quarter of what lives if that is more. Go's own rule, a percentage of what lives, fits no process that
// may have a hundred busy connections or a hundred thousand idle ones. With few, what lives is little compared with what passes
// through, and a low percentage makes Go collect all the time. With many, a high one makes idle connections take several times
// the memory that they need. When the process has become quiet, the memory goes back to the system.
const (
	garbagePeriod = 750 * time.Millisecond
	leastGarbage  = 64 << 20
	mostGarbage   = 512 << 20
	leastPercent  = 25
	// quiet is how many bytes a quiet process allocates in garbagePeriod at most.
	quiet = 4 << 20
	// goMinimum is what Go takes for what lives if less does.
	goMinimum = 4 << 20
)

// boundGarbage applies these rules until stop is called.
func boundGarbage() (stop func()) {
	var running sync.WaitGroup
	done, collected := make(chan struct{}), make(chan struct{}, 1)
	running.Go(func() {
		tick := time.NewTicker(garbagePeriod)
		defer tick.Stop()
		c := newCollector(collected)
		for {
			select {
			case <-collected:
				c.adjust()
			case <-tick.C:
				c.giveBack()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

type collector struct {
	samples   []metrics.Sample
	collected chan struct{} // gets a token after each collection
	percent   int
	// What was allocated in all at the last collection and at the last tick, and when that was.
	atCollection, atTick uint64
	since                time.Time
}

func newCollector(collected chan struct{}) *collector {
	c := &collector{collected: collected, since: time.Now(), samples: []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/scan/stack:bytes"},
		{Name: "/gc/scan/globals:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}}
	c.adjust()
	return c
}

// read returns how many bytes were allocated in all, what Go counts as alive, and what the heap holds beyond what lives in it.
func (c *collector) read() (allocated, live, spare uint64) {
	metrics.Read(c.samples)
	value := func(i int) uint64 { return c.samples[i].Value.Uint64() }
	inHeap := value(4) + value(5)
	return value(0), max(value(1)+value(2)+value(3), goMinimum), inHeap - min(value(1), inHeap)
}

// adjust sets the percentage for the next collection.
func (c *collector) adjust() {
	allocated, live, _ := c.read()
	now := time.Now()
	rate := float64(allocated-c.atCollection) / max(now.Sub(c.since), time.Millisecond).Seconds()
	c.atCollection, c.since = allocated, now
	garbage := min(max(uint64(rate*garbagePeriod.Seconds()), leastGarbage), mostGarbage)
	percent := int(max(garbage*100/live, leastPercent))
	if percent*10 < c.percent*9 || percent*10 > c.percent*11 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	// Nobody refers to the object, so the next collection cleans it up.
	runtime.AddCleanup(new([32]byte), func(collected chan struct{}) {
		select {
		case collected <- struct{}{}:
		default:
		}
	}, c.collected)
}

// giveBack gives memory back that nothing needs while the process is quiet.
func (c *collector) giveBack() {
	allocated, live, spare := c.read()
	isQuiet := allocated-c.atTick < quiet
	c.atTick = allocated
	if isQuiet && spare > max(leastGarbage/2, live*leastPercent/100) {
		debug.FreeOSMemory()
	}
}

package rules

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// slots is into how many parts a window is divided. A rate is exact but for what lies in the oldest part.
	slots = 60
	// maxSenders bounds of how many users the rates are kept: those who sent last. With one window that is 5 MB.
	maxSenders = 20_000
	maxWindows = 8
	minWindow  = time.Second
	maxWindow  = 24 * time.Hour
)

// rates counts, for the windows that conditions ask for, what users send.
type rates struct {
	windows map[string]int64 // the length of a slot in nanoseconds

	mu      sync.Mutex
	senders *simplelru.LRU[int64, map[string]*counts]
}

// counts counts by time. Slots are numbered from the beginning of Unix time.
type counts struct {
	latest int64
	slots  [slots]uint32
}

func parseWindow(window string) (time.Duration, error) {
	d, err := time.ParseDuration(window)
	if err != nil || d < minWindow || d > maxWindow {
		return 0, fmt.Errorf("rate of %.40q: want a time from %s to %s, like 1m", window, minWindow, maxWindow)
	}
	return d, nil
}

// newRates returns nil if there are no windows.
func newRates(windows []string) (*rates, error) {
	if len(windows) == 0 {
		return nil, nil
	}
	r := &rates{windows: map[string]int64{}}
	for _, w := range windows {
		d, err := parseWindow(w)
		if err != nil {
			return nil, err
		}
		r.windows[w] = int64(d) / slots
	}
	if len(r.windows) > maxWindows {
		return nil, fmt.Errorf("rates over %d different times, more than %d", len(r.windows), maxWindows)
	}
	var err error
	r.senders, err = simplelru.NewLRU[int64, map[string]*counts](maxSenders, nil)
	return r, err
}

// or returns the other rates if they are over the same times.
func (r *rates) or(other *rates) *rates {
	if r == nil || other == nil || !maps.Equal(r.windows, other.windows) {
		return r
	}
	return other
}

// count counts one message of the user.
func (r *rates) count(user int64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	windows, known := r.senders.Get(user)
	if !known {
		windows = make(map[string]*counts, len(r.windows))
		for w := range r.windows {
			windows[w] = &counts{}
		}
		r.senders.Add(user, windows)
	}
	for w, slot := range r.windows {
		windows[w].add(at.UnixNano() / slot)
	}
}

// of returns how many messages of the user were counted in the window that ends at the time.
func (r *rates) of(user int64, window string, at time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	windows, _ := r.senders.Peek(user)
	c := windows[window]
	if c == nil {
		return 0
	}
	return c.sum(at.UnixNano() / r.windows[window])
}

func (c *counts) add(slot int64) {
	if slot <= c.latest-slots {
		return
	}
	for ; c.latest < slot; c.latest++ {
		if c.latest < slot-slots {
			c.latest = slot - slots
		}
		c.slots[(c.latest+1)%slots] = 0
	}
	c.slots[slot%slots]++
}

// sum adds up what was counted in the slots that end with this one.
func (c *counts) sum(slot int64) int {
	n := 0
	for s := max(slot, c.latest) - slots + 1; s <= min(slot, c.latest); s++ {
		n += int(c.slots[s%slots])
	}
	return n
}

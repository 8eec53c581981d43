package connect

import (
	"context"
	"runtime"
)

// skipsAtOnce is how many sessions are told of skips while the hub's lock is held.
const skipsAtOnce = 128

// skip says that no session gets the partition's deliveries up to a position from the hub; each has to ask for its own. A
// skip concerns all sessions, possibly a hundred thousand, while everybody waits for the hub's lock. So it is only noted. A
// session takes it into account before anything else happens to its deliveries (applySkips), and a goroutine goes through all
// sessions, a few at a time, for those to which nothing happens.
type skip struct {
	partition int32
	through   int64
	delivered map[int32]int64 // what the hub had delivered before the skip; shared by all sessions
}

// skipAll notes a skip. If the partition was being delivered, the skip must be noted before the partition counts as delivered
// up to the position. The lock is held.
func (h *hub) skipAll(partition int32, through int64) {
	if len(h.sessions) == 0 {
		return
	}
	h.skips = append(h.skips, skip{partition, through, h.delivered()})
	h.skipped++
	if !h.skipping {
		h.skipping = true
		h.wg.Go(func() { h.panics.Keep(h.ctx, h.seeToSkips) })
	}
}

// seeToSkips goes through the sessions until all have taken all skips into account. It goes from the last to the first,
// because the last takes the place of one that leaves.
func (h *hub) seeToSkips(ctx context.Context) {
	for {
		goal, next := h.skipGoal()
		for next > 0 && ctx.Err() == nil {
			next = h.applySome(next)
			runtime.Gosched()
		}
		if h.skipsSeenTo(ctx, goal) {
			return
		}
	}
}

// skipGoal returns how many skips there were, and how many sessions have to take them into account.
func (h *hub) skipGoal() (skips uint64, sessions int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.skipped, len(h.sessions)
}

// applySome makes some of the sessions before the given place take the skips into account, and returns where it has stopped.
func (h *hub) applySome(before int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = min(before, len(h.sessions))
	for range min(before, skipsAtOnce) {
		before--
		h.applySkips(h.sessions[before])
	}
	return before
}

// skipsSeenTo forgets the skips that all sessions have taken into account, and reports whether there were no others.
func (h *hub) skipsSeenTo(ctx context.Context, goal uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skips = h.skips[len(h.skips)-int(h.skipped-goal):]
	if h.skipped == goal || ctx.Err() != nil {
		h.skips, h.skipping = nil, false
		return true
	}
	return false
}

// applySkips makes the session take into account what was skipped since the last call: from then on it buffers, and its feed
// asks for what it has missed. The lock is held.
func (h *hub) applySkips(sub *subscriber) {
	if sub.skips == h.skipped {
		return
	}
	for _, s := range h.skips[max(0, len(h.skips)-int(h.skipped-sub.skips)):] {
		if !sub.buffering {
			sub.buffering = true
			sub.resumeFrom = s.delivered
			if len(sub.deliveredThrough) > 0 {
				sub.resumeFrom = furthest(s.delivered, sub.deliveredThrough)
			}
		}
		if sub.skipped == nil {
			sub.skipped = map[int32]int64{}
		}
		sub.skipped[s.partition] = max(sub.skipped[s.partition], s.through)
	}
	sub.skips = h.skipped
	switch {
	case sub.feeding:
		select {
		case sub.wake <- struct{}{}:
		default:
		}
	case sub.feed != nil:
		sub.feeding = true
		sub.session.spawn(func() { sub.feed.run(sub.session.ctx, nil) })
	}
}

// furthest returns the greater of the two positions of each partition.
func furthest(a, b map[int32]int64) map[int32]int64 {
	all := make(map[int32]int64, max(len(a), len(b)))
	for _, positions := range []map[int32]int64{a, b} {
		for p, seq := range positions {
			all[p] = max(all[p], seq)
		}
	}
	return all
}

// jump gives up a gap that cannot be read; the feed of every session asks for that session's part of it.
func (h *hub) jump(p *partition, through int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if through <= p.covered {
		return
	}
	h.skipAll(p.id, through)
	p.covered = through
	h.release(p)
}

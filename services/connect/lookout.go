package connect

import (
	"context"
	"time"

	"millrace/services/connect/cluster"
)

const (
	// lookoutEvery is how often the end of the log is asked for.
	lookoutEvery = time.Second
	// stalledTurns is for how many of these turns nothing of a partition must have been delivered to take it for one of
	// which nobody tells.
	stalledTurns = 5
)

// turn is what a look at the log told, by partition.
type turn struct{ end, covered map[int32]int64 }

// lookOut sees to partitions of which no push node tells this gateway: the one that holds them may be cut off from it
// alone, or unknown to it. While some node that is known is not attached, what the log had a turn ago and is not delivered
// by now is read from it. Else only partitions that have not moved for a while are: one that lags is not to be burdened.
func (g *Gateway) lookOut(ctx context.Context) {
	var turns []turn
	for cluster.Sleep(ctx, lookoutEvery) {
		covered := g.hub.covered()
		g.hub.reach(untold(turns, covered, g.apart.Load() > 0))
		end, err := g.nodes.Ends(ctx)
		if err != nil {
			turns = nil
			continue
		}
		turns = append(turns, turn{end, covered})
		turns = turns[max(0, len(turns)-stalledTurns):]
	}
}

// untold answers how far partitions go of which nobody seems to tell.
func untold(turns []turn, covered map[int32]int64, apart bool) map[int32]int64 {
	switch {
	case apart && len(turns) > 0:
		return turns[len(turns)-1].end
	case len(turns) < stalledTurns:
		return nil
	}
	stalled := map[int32]int64{}
	for p, seq := range turns[0].end {
		if covered[p] == turns[0].covered[p] {
			stalled[p] = seq
		}
	}
	return stalled
}

// covered tells up to where the partitions are delivered.
func (h *hub) covered() map[int32]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	covered := make(map[int32]int64, len(h.partitions))
	for id, p := range h.partitions {
		covered[id] = p.covered
	}
	return covered
}

// reach tells the hub how far the partitions go.
func (h *hub) reach(end map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, seq := range end {
		p := h.partition(id)
		p.reach = max(p.reach, seq)
		h.fill(p)
	}
}

package connect

import (
	"context"
	"time"

	"millrace/services/connect/cluster"
)

const (
	// lookoutEvery is how often the gateway asks for the end of the log.
	lookoutEvery = time.Second
	// stalledTurns is for how many of these turns nothing of a partition must have been delivered until the gateway assumes
	// that no push node tells it of the partition.
	stalledTurns = 5
)

// turn is the result of one look at the log, by partition.
type turn struct{ end, covered map[int32]int64 }

// lookOut looks after partitions of which no push node tells this gateway: the node that has such a partition may be cut off
// from this gateway only, or be unknown to it. While a known node is not attached, the gateway reads from the log everything
// that the log had a turn ago and that was not delivered since. Otherwise it does so only in partitions that have not moved
// for a while, in order not to burden one that merely lags.
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

// untold returns, for the partitions of which nobody seems to tell, the position up to which to read.
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

// covered returns, by partition, the position up to which everything was delivered.
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

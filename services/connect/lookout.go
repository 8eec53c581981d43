package connect

import (
	"context"
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// lookoutEvery is how often the end of the log is asked for while some push node is not attached.
const lookoutEvery = time.Second

// lookOut sees to the partitions of a push node that is not attached but holds them all the same, as one does that is cut
// off from this gateway alone: nobody else would tell of them. What the log had a turn ago and is not delivered by now is
// read from it.
func (g *Gateway) lookOut(ctx context.Context) {
	var before map[int32]int64
	for sleep(ctx, lookoutEvery) {
		if g.apart.Load() == 0 {
			before = nil
			continue
		}
		g.hub.reach(before)
		if end, err := g.nodes.end(ctx); err == nil {
			before = end
		}
	}
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

// end asks for the end of the log, which Sync tells anybody: here a user who has nothing.
func (n *nodes) end(ctx context.Context) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	answer, err := n.syncOnce(ctx, &millracev1.SyncRequest{User: events.MaxID})
	if err != nil {
		return nil, err
	}
	return answer.start.GetEnd(), nil
}

package connect

import (
	"context"
	"errors"
)

// Ready returns why the gateway cannot serve clients now: it is draining, no message node responds, or it is attached to no
// push node.
func (g *Gateway) Ready(context.Context) error {
	g.mu.Lock()
	draining := g.draining
	g.mu.Unlock()
	var faults []error
	if draining {
		faults = append(faults, errors.New(goingAway))
	}
	if !g.nodes.Answer() {
		faults = append(faults, errors.New("no message node answers"))
	}
	if !g.hub.attached() {
		faults = append(faults, errors.New("attached to no push node"))
	}
	return errors.Join(faults...)
}

func (h *hub) attached() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams) > 0
}

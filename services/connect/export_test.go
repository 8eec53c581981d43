package connect

import "slices"

// Live reports whether every session gets what comes at once, also what is dropped as long as it still gets what it missed.
func (g *Gateway) Live() bool {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	return !slices.ContainsFunc(g.hub.sessions, func(sub *subscriber) bool { return sub.buffering })
}

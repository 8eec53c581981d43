package connect

import (
	"context"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const pulseSlots = 50

// pulse pings all connections from one goroutine. Each connection is in one slot, and the slots take turns.
type pulse struct {
	every time.Duration

	mu    sync.Mutex
	slots [pulseSlots]map[*session]struct{}
	next  int
}

func (p *pulse) add(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.slot = p.next
	p.next = (p.next + 1) % pulseSlots
	if p.slots[s.slot] == nil {
		p.slots[s.slot] = map[*session]struct{}{}
	}
	p.slots[s.slot][s] = struct{}{}
}

func (p *pulse) remove(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.slots[s.slot], s)
}

// run pings until the context ends.
func (p *pulse) run(ctx context.Context) {
	ticker := time.NewTicker(max(p.every/pulseSlots, time.Millisecond))
	defer ticker.Stop()
	for turn := 0; ; turn = (turn + 1) % pulseSlots {
		select {
		case <-ticker.C:
			p.beat(turn)
		case <-ctx.Done():
			return
		}
	}
}

// beat pings the connections of the slot, and closes those that have shown no sign of life since the ping before the last.
func (p *pulse) beat(slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.slots[slot] {
		if time.Since(time.Unix(0, s.seen.Load())) > 2*p.every {
			s.closeNow(closeSlow, "no answer to pings: resume with the cursor")
			continue
		}
		s.out.put(outFrame{op: websocket.PingMessage})
	}
}

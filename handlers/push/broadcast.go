package push

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// broadcastWait is how long Broadcast waits for gateways. One that takes longer gets it once it reads again,
	// and nobody waits for it until then.
	broadcastWait = 2 * time.Second
	// keepBroadcasts is how long a broadcast is kept for gateways that attach, because one that has lost its stream is back
	// within seconds, and a node that has just started is found within seconds.
	keepBroadcasts = time.Minute
	// maxKept and maxKeptBytes bound what is kept.
	maxKept      = 1024
	maxKeptBytes = 4 << 20
)

// broadcasts are for all gateways. A node sends each to the gateways that are attached, and keeps it for those that attach
// a little later. It has a lock of its own, so that broadcasts and deliveries do not wait for each other.
type broadcasts struct {
	mu       sync.Mutex
	gateways map[*queue]*audience
	waiting  map[*awaited]struct{}
	kept     []kept // oldest first
	bytes    int    // of those that are kept
}

// audience is one gateway.
type audience struct {
	sent uint64 // the number of the last broadcast
	late bool   // somebody has waited in vain for its acknowledgement
}

// awaited are the gateways that have to acknowledge everything up to a number.
type awaited struct {
	unacknowledged map[*queue]uint64
	done           chan struct{} // closed when there are none
}

type kept struct {
	*millracev1.Broadcast
	at   time.Time
	size int
}

func newBroadcasts() broadcasts {
	return broadcasts{gateways: make(map[*queue]*audience), waiting: make(map[*awaited]struct{})}
}

// Broadcast sends the broadcasts to all gateways. It returns nil once those that are attached have acknowledged them, but
// for those that take longer than [broadcastWait]. It returns an error if the node stops or the context ends before that: then
// they have to be sent again, by another node if there is one.
func (h *Hub) Broadcast(ctx context.Context, all ...*millracev1.Broadcast) error {
	w := h.broadcasts.send(all)
	defer h.broadcasts.forget(w)
	timer := time.NewTimer(broadcastWait)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	case <-h.stop:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-h.stop: // which ends all streams, so that nobody is left to wait for
		return errStopping()
	default:
		return nil
	}
}

// send queues the broadcasts for all gateways and keeps them.
func (a *broadcasts) send(all []*millracev1.Broadcast) *awaited {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range all {
		size := proto.Size(one)
		a.keep(kept{one, time.Now(), size})
		for q, to := range a.gateways {
			to.send(q, one, 0, size)
		}
	}
	w := &awaited{unacknowledged: map[*queue]uint64{}, done: make(chan struct{})}
	for q, to := range a.gateways {
		if !to.late {
			w.unacknowledged[q] = to.sent
		}
	}
	a.waiting[w] = struct{}{}
	a.endIfDone(w)
	return w
}

// send queues a broadcast that the node has had for some time. What it has in common for all gateways is shared.
func (to *audience) send(q *queue, one *millracev1.Broadcast, age time.Duration, size int) {
	to.sent++
	q.broadcast(&millracev1.Broadcast{Number: to.sent, AgeMs: age.Milliseconds(), Kind: one.GetKind()}, size)
}

// keep keeps the broadcast, and forgets old ones.
func (a *broadcasts) keep(one kept) {
	a.kept = append(a.kept, one)
	a.bytes += one.size
	for len(a.kept) > 0 && (len(a.kept) > maxKept || a.bytes > maxKeptBytes || time.Since(a.kept[0].at) > keepBroadcasts) {
		a.bytes -= a.kept[0].size
		a.kept[0] = kept{}
		a.kept = a.kept[1:]
	}
}

// attach adds a gateway and sends it what is kept, unless its queue has ended and detach may have been called already.
func (a *broadcasts) attach(q *queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-q.ended:
		return
	default:
	}
	to := &audience{}
	a.gateways[q] = to
	for _, one := range a.kept {
		if age := time.Since(one.at); age <= keepBroadcasts {
			to.send(q, one.Broadcast, age, one.size)
		}
	}
}

// detach removes a gateway whose queue has ended, for which nobody waits any more: it gets what is kept when it attaches again.
func (a *broadcasts) detach(q *queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.gateways, q)
	for w := range a.waiting {
		delete(w.unacknowledged, q)
		a.endIfDone(w)
	}
}

// acknowledge notes that the gateway has acted on everything up to the number.
func (a *broadcasts) acknowledge(q *queue, number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if to := a.gateways[q]; to != nil && number >= to.sent {
		to.late = false
	}
	for w := range a.waiting {
		if want, waits := w.unacknowledged[q]; waits && number >= want {
			delete(w.unacknowledged, q)
			a.endIfDone(w)
		}
	}
}

func (a *broadcasts) endIfDone(w *awaited) {
	if len(w.unacknowledged) == 0 {
		delete(a.waiting, w)
		close(w.done)
	}
}

// forget ends the waiting. Gateways that have not acknowledged yet are late.
func (a *broadcasts) forget(w *awaited) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, w)
	for q := range w.unacknowledged {
		if to := a.gateways[q]; to != nil {
			to.late = true
		}
	}
}

package connect

import (
	"context"
	"time"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	interestChunk = 4096 // channels in one Interest
	maxSignals    = 1024 // waiting for one stream; more are lost, as signals may be
)

// stream is the hub's side of one Attach stream. It is under the hub's lock.
//
// Interests are numbered; upto is the number that will have carried every change made so far. A span that was made with an
// older number may lack deliveries of channels registered since. That is no loss for a session whose channels were
// acknowledged before it asked for the end of the log: what such spans cover lies before that end. Only where a session
// did not wait long enough, or could not wait, are spans older than its channels taken for gaps: trustedFrom is the number from
// which on the stream's spans are trusted.
type stream struct {
	node        string
	dirty       []string // channels whose interest has changed, in order; what it is now, the hub knows
	users       []int64  // users of whom the same holds
	signals     []*millracev1.Signal
	online      map[int64]struct{} // of the users watched, those that the node knows to be online
	sent        uint64
	acked       uint64
	trustedFrom uint64
	clock       nodeClock
	waiters     []waiter
	wake        chan struct{}
}

type waiter struct {
	number uint64
	acked  chan<- struct{}
}

func (s *stream) upto() uint64 {
	return s.sent + uint64((max(len(s.dirty), len(s.users))+interestChunk-1)/interestChunk)
}

func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// attach adds a stream whose first interests will be all channels.
func (h *hub) attach(node string) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &stream{node: node, wake: make(chan struct{}, 1), online: map[int64]struct{}{}}
	for name, c := range h.channels {
		s.dirty = append(s.dirty, name)
		if c.user != 0 && len(c.subs) > 0 && h.watches[c.user] == nil {
			s.users = append(s.users, c.user)
		}
	}
	for user := range h.watches {
		s.users = append(s.users, user)
	}
	s.trustedFrom = max(1, s.upto())
	h.streams[s] = struct{}{}
	s.poke()
	return s
}

// detach forgets the stream: nobody waits for it any more, and what is held of it becomes part of the gap, for it is no
// longer known which of it could be trusted.
func (h *hub) detach(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, s)
	for _, p := range h.partitions {
		p.forget(s)
	}
	for _, w := range s.waiters {
		w.acked <- struct{}{}
	}
	s.waiters = nil
	for user := range s.online {
		h.review(user)
	}
}

// changed has all streams tell what the interest in the channel is now.
func (h *hub) changed(name string) {
	for s := range h.streams {
		s.dirty = append(s.dirty, name)
		s.poke()
	}
}

// take is what the stream has to send next, nil if nothing.
func (h *hub) take(s *stream) *millracev1.AttachRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case len(s.dirty) > 0 || len(s.users) > 0 || s.sent == 0:
		s.sent++
		n := min(len(s.dirty), interestChunk)
		interest := &millracev1.Interest{Number: s.sent}
		for _, name := range s.dirty[:n] {
			if h.channels[name] != nil {
				interest.Add = append(interest.Add, name)
			} else {
				interest.Remove = append(interest.Remove, name)
			}
		}
		if s.dirty = s.dirty[n:]; len(s.dirty) == 0 {
			s.dirty = nil
		}
		interest.Users = h.takeUsers(s)
		return &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Interest{Interest: interest}}
	case len(s.signals) > 0:
		signal := s.signals[0]
		s.signals = s.signals[1:]
		return &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Signal{Signal: signal}}
	}
	return nil
}

// unacknowledged are the streams to wait for, with the number that each has to acknowledge, which acked then tells.
func (h *hub) unacknowledged() (waiting map[*stream]uint64, acked chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	acked = make(chan struct{}, len(h.streams))
	waiting = map[*stream]uint64{}
	for s := range h.streams {
		number := s.upto()
		switch {
		case s.acked >= number:
		case s.acked < s.trustedFrom:
			s.trustedFrom = number
		default:
			s.waiters = append(s.waiters, waiter{number, acked})
			waiting[s] = number
		}
	}
	return waiting, acked
}

// await waits until the push nodes have taken up the interest as it is now. Where one does not in time, its spans are not
// trusted until it has; such a node is not waited for again.
func (h *hub) await(ctx context.Context) {
	waiting, acked := h.unacknowledged()
	timer := time.NewTimer(h.wait)
	defer timer.Stop()
	for range waiting {
		select {
		case <-acked:
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		break
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	for s, number := range waiting {
		if s.acked < number {
			s.trustedFrom = max(s.trustedFrom, number)
		}
	}
}

// expectLate has the partition's spans that do not regard the interest as it is now taken for gaps. That it may be
// acknowledged already is no help here: older spans may still be held, or on their way.
func (h *hub) expectLate(p *partition) {
	for s := range h.streams {
		p.trustedFrom[s] = s.upto()
	}
}

// acknowledged takes an acknowledgement. Where spans older than it were not trusted, what the node had handled by then
// is read from the log at once: its next span may be long in coming.
func (h *hub) acknowledged(s *stream, ack *millracev1.InterestAck) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ack.GetNow() > s.clock.now() {
		s.clock = nodeClock{ack.GetNow(), time.Now()}
	}
	before := s.acked
	s.acked = max(s.acked, ack.GetNumber())
	caughtUp := func(number uint64) bool { return before < number && number <= s.acked }
	waiters := s.waiters[:0]
	for _, w := range s.waiters {
		if w.number <= s.acked {
			w.acked <- struct{}{}
		} else {
			waiters = append(waiters, w)
		}
	}
	s.waiters = waiters
	for id, seq := range ack.GetHandled() {
		p := h.partition(id)
		p.handled = max(p.handled, seq)
		if caughtUp(s.trustedFrom) || caughtUp(p.trustedFrom[s]) {
			h.accept(p, s, &millracev1.Span{Partition: id, After: seq, Through: seq, Interest: s.acked})
		}
	}
}

// signal has a push node relay the signal, if any is attached.
func (h *hub) signal(signal *millracev1.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var via *stream
	for s := range h.streams {
		if via == nil || s.acked >= s.trustedFrom {
			via = s
		}
	}
	if via != nil {
		via.signal(signal)
	}
}

// signal queues the signal, unless too many wait.
func (s *stream) signal(signal *millracev1.Signal) {
	if len(s.signals) < maxSignals {
		s.signals = append(s.signals, signal)
		s.poke()
	}
}

// relayed brings a signal to the sessions here. A session that is still being given what it missed does without.
func (h *hub) relayed(signal *millracev1.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.channels[signal.GetChannel()]
	if c == nil {
		return
	}
	for sub := range c.subs {
		switch {
		case signal.GetReplaced() != nil:
			h.hear(sub, signal.GetReplaced())
		case sub.user != signal.GetExceptUser() && !sub.buffering:
			sub.session.out.text(signal.GetPush())
		}
	}
}

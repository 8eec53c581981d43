package connect

import (
	"context"
	"time"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	interestChunk = 4096 // channels in one Interest
	maxSignals    = 1024 // for one stream; further signals are dropped, as signals may be
)

// stream is the hub's side of one Attach stream. The hub's lock guards it.
//
// Interests are numbered; upto returns the number of the interest that will contain every change made so far. A span that was
// made with an older number may lack deliveries on channels that were registered since. A session that waited for the
// acknowledgement of its channels before it asked for the end of the log misses nothing by that, because such spans end
// before that end. If a session did not wait, or not long enough, spans with a number below trustedFrom are treated as gaps.
type stream struct {
	node            string
	dirty           []string // channels whose interest has changed, in order; the hub knows the present interest
	users           []int64  // users of whom the same has changed
	signals         []*millracev1.Signal
	answers         []*millracev1.SessionsAnswer
	online          map[int64]struct{} // those of the watched users that the node knows to be online
	sent            uint64
	acked           uint64
	trustedFrom     uint64
	clock           nodeClock
	broadcasts      uint64 // the number of the last broadcast that was acted on
	broadcastsAcked uint64 // and of the last that was acknowledged
	waiters         []waiter
	wake            chan struct{}
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

// attach adds a stream. Its first interests will name all channels.
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

// detach removes the stream. Nobody waits for it any more. The spans of it that are held become part of the gap, because
// nobody knows any more which of them can be trusted.
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

// changed makes all streams send the present interest in the channel.
func (h *hub) changed(name string) {
	for s := range h.streams {
		s.dirty = append(s.dirty, name)
		s.poke()
	}
}

// take returns what the stream has to send next, or nil.
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
	case s.broadcasts > s.broadcastsAcked:
		s.broadcastsAcked = s.broadcasts
		return &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_BroadcastAck{BroadcastAck: s.broadcasts}}
	case len(s.signals) > 0:
		signal := s.signals[0]
		s.signals = s.signals[1:]
		return &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Signal{Signal: signal}}
	case len(s.answers) > 0:
		answer := s.answers[0]
		s.answers = s.answers[1:]
		return &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Sessions{Sessions: answer}}
	}
	return nil
}

// unacknowledged returns the streams to wait for, with the number that each has to acknowledge, and a channel on which an
// acknowledgement is signalled.
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

// await waits until the push nodes have acknowledged the present interest. The spans of a node that does not in time are not
// trusted until it has, and the next caller does not wait for it again.
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

// expectLate makes the hub treat as gaps the partition's spans that were made with an older interest than the present one.
// Even if that is acknowledged already, older spans may still be held or be on their way.
func (h *hub) expectLate(p *partition) {
	for s := range h.streams {
		p.trustedFrom[s] = s.upto()
	}
}

// acknowledged applies an acknowledgement. If older spans were not trusted, the hub reads at once from the log what the node
// had handled by then, because the node's next span may come much later.
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

// signal makes a push node relay the signal, if one is attached.
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

// relayed passes a signal to the sessions of this gateway. A session that still gets what it missed does not get it.
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
		case signal.GetBlockChanged() != nil:
			h.hearBlock(sub, signal.GetBlockChanged().GetBy())
		case sub.user != signal.GetExceptUser() && !sub.buffering:
			sub.session.out.text(signal.GetPush())
		}
	}
}

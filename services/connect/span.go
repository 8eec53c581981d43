package connect

import (
	"cmp"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// The bounds of the spans that are held of a partition while a gap before them is being read. Beyond these the held spans are
// dropped and become part of the gap.
const (
	heldSpans = 256
	heldBytes = 1 << 20
)

// partition is how far the gateway has delivered a partition. The hub's lock guards it.
type partition struct {
	id int32
	// covered is the position up to which everything was delivered. It is known once a session has learnt the end of the log;
	// before that nobody needs any delivery.
	known   bool
	covered int64
	// reach is the position up to which the partition is known to go. If it lies after covered there is a gap.
	reach       int64
	handled     int64 // the highest position that a push node has said to have handled
	held        []heldSpan
	bytes       int
	filling     bool
	trustedFrom map[*stream]uint64 // like stream.trustedFrom, for this partition alone
}

type heldSpan struct {
	from *stream
	*millracev1.Span
}

func (s heldSpan) size() (bytes int) {
	for _, d := range s.GetDeliveries() {
		bytes += len(d.GetPush())
	}
	return bytes
}

func (h *hub) partition(id int32) *partition {
	p := h.partitions[id]
	if p == nil {
		p = &partition{id: id, trustedFrom: map[*stream]uint64{}}
		h.partitions[id] = p
	}
	return p
}

// span handles a span from a push node's stream.
func (h *hub) span(from *stream, span *millracev1.Span) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accept(h.partition(span.GetPartition()), from, span)
}

// accept delivers a span that follows what was delivered. A span that leaves a gap is held until the gap is filled.
func (h *hub) accept(p *partition, from *stream, span *millracev1.Span) {
	p.reach = max(p.reach, span.GetThrough())
	switch {
	case !p.known || span.GetThrough() <= p.covered:
		return
	case span.GetAfter() > p.covered:
		p.hold(heldSpan{from, span})
	default:
		h.advance(p, from, span)
		h.release(p)
	}
	h.fill(p)
}

// trusted reports whether the span has everything that the gateway is interested in, as spans from the log have.
func (p *partition) trusted(from *stream, span *millracev1.Span) bool {
	return from == nil || span.GetInterest() >= max(from.trustedFrom, p.trustedFrom[from])
}

// advance delivers what is new of the span, as long as the span can be trusted: if a user joins a group in it, the rest of it
// becomes a gap.
func (h *hub) advance(p *partition, from *stream, span *millracev1.Span) {
	for _, d := range span.GetDeliveries() {
		if !p.trusted(from, span) {
			return
		}
		if d.GetSeq() > p.covered {
			h.deliver(p.id, d)
			p.covered = d.GetSeq()
		}
	}
	if p.trusted(from, span) {
		p.covered = max(p.covered, span.GetThrough())
	}
}

func (p *partition) hold(span heldSpan) {
	p.bytes += span.size()
	if p.held = append(p.held, span); len(p.held) > heldSpans || p.bytes > heldBytes {
		p.held, p.bytes = nil, 0
		return
	}
	slices.SortStableFunc(p.held, func(a, b heldSpan) int { return cmp.Compare(a.GetAfter(), b.GetAfter()) })
}

// release delivers the held spans that follow what was delivered.
func (h *hub) release(p *partition) {
	for len(p.held) > 0 && p.held[0].GetAfter() <= p.covered {
		next := p.held[0]
		p.held = p.held[1:]
		p.bytes -= next.size()
		h.advance(p, next.from, next.Span)
	}
	if len(p.held) == 0 {
		p.held = nil
	}
}

// forget drops the held spans of the stream.
func (p *partition) forget(s *stream) {
	delete(p.trustedFrom, s)
	p.held = slices.DeleteFunc(p.held, func(span heldSpan) bool {
		if span.from == s {
			p.bytes -= span.size()
		}
		return span.from == s
	})
}

// fill reads from the log the gap before what is held or known to exist.
func (h *hub) fill(p *partition) {
	if !p.known || p.filling || p.covered >= p.reach {
		return
	}
	p.filling = true
	h.wg.Go(func() { h.fillContained(p) })
}

func (h *hub) fillFromLog(p *partition) {
	pause := cluster.ShortPause
	for {
		after, through, gap := h.gap(p)
		if !gap {
			return
		}
		h.metrics.gaps.Inc()
		err := h.reader.ReadLog(h.ctx, p.id, after, through, func(span *millracev1.Span) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.advance(p, nil, span)
			h.release(p)
		})
		switch {
		case err == nil:
			pause = cluster.ShortPause
		case status.Code(err) == codes.OutOfRange:
			h.log.Info("gap too long to read: sessions resume", "partition", p.id, "after", after, "through", through)
			h.jump(p, through)
		default:
			h.log.Warn("cannot read the log", "partition", p.id, "after", after, "through", through, "error", err)
			if !cluster.Sleep(h.ctx, cluster.Jitter(pause)) {
				return
			}
			pause = min(2*pause, cluster.LongPause)
		}
	}
}

// gap returns the part of the partition that has to be read next. If there is none, whoever finds the next gap starts another
// fill.
func (h *hub) gap(p *partition) (after, through int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.covered >= p.reach || h.ctx.Err() != nil {
		p.filling = false
		return 0, 0, false
	}
	through = p.reach
	if len(p.held) > 0 {
		through = p.held[0].GetAfter()
	}
	return p.covered, through, true
}

// learnt notes the ends of the log that a session has learnt. From the first call on there is live delivery. Another session
// that connects at the same time and has learnt an earlier end has to ask again.
func (h *hub) learnt(end map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, seq := range end {
		p := h.partition(id)
		p.handled = max(p.handled, seq)
		if !p.known {
			p.known, p.covered = true, seq
			h.skipAll(id, seq)
			h.fill(p)
		}
	}
}

// handled returns, by partition, the position up to which the partition is known to go: an end of the log that is read from
// now on is not before it.
func (h *hub) handled() map[int32]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	positions := make(map[int32]int64, len(h.partitions))
	for id, p := range h.partitions {
		positions[id] = max(p.covered, p.reach, p.handled)
	}
	return positions
}

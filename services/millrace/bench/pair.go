package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"millrace/services/client"
)

const (
	// A refused message is repeated after a pause that grows from the first of these to the second.
	minBenchPause = 5 * time.Millisecond
	maxBenchPause = 100 * time.Millisecond
)

// benchPair is a user that sends and one that receives, with others if they are members of a group. Each has a goroutine of its
// own, which owns what it records. Other goroutines may read the counters.
type benchPair struct {
	conversation string

	wire     *wire
	from, to *benchPeer
	again    atomic.Pointer[benchPeer] // the receiver that has come back
	others   []*listener
	start    time.Time
	window   int32 // how many messages may be in flight
	count    int32 // messages to send
	untimed  int32 // how many messages at the beginning do not count for the latencies
	stop     *atomic.Bool
	lockstep chan struct{} // if not nil, a message is sent only once the one before it has arrived
	patience time.Duration

	acked, echoed, delivered atomic.Int64
	stored                   atomic.Int64 // counts signs that storing goes on

	sent    chan struct{} // closed when nothing more will be sent and everything is answered
	answers chan client.Frame
	asked   int64
	ending  atomic.Bool
	ended   chan struct{}
	loops   sync.WaitGroup

	// The sending goroutine uses these.
	next     int32
	lowest   int32 // all messages before it are accepted
	accepted []bool
	flying   int32
	refused  []int32 // to be repeated once nothing is in flight
	pauses   int
	refusals int
	frame    []byte
	sentAt   []int64 // in nanoseconds since the start, by index
	ack      *hdrhistogram.Histogram
	lastAck  time.Duration
	atSender []sighting
	sendErr  error

	// The receiving goroutine uses these.
	delivery     *hdrhistogram.Histogram
	back         time.Duration // when the receiver came back; 0: it was not away
	lastDelivery time.Duration
	atPeer       []sighting
	receiveErr   error
}

// newLatencies returns a histogram of microseconds up to a minute with three digits.
func newLatencies() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

func (p *benchPair) run() {
	p.ack, p.delivery = newLatencies(), newLatencies()
	p.sent, p.ended, p.answers = make(chan struct{}), make(chan struct{}), make(chan client.Frame)
	for _, l := range p.others {
		p.loops.Go(func() {
			if err := l.run(p); !p.ending.Load() {
				l.err = fmt.Errorf("user %d: %w", l.peer.user, err)
			}
		})
	}
	p.loops.Go(func() {
		if err := p.sendAll(); !p.ending.Load() {
			p.sendErr = fmt.Errorf("user %d: %w", p.from.user, err)
		}
	})
}

// listen starts receiving.
func (p *benchPair) listen(to *benchPeer) {
	p.loops.Go(func() {
		if err := p.receive(to, p.onDelivery); !p.ending.Load() {
			p.receiveErr = fmt.Errorf("user %d: %w", p.to.user, err)
		}
	})
}

// end cuts the connections and waits for their goroutines.
func (p *benchPair) end() {
	p.ending.Store(true)
	close(p.ended)
	for _, peer := range p.peers() {
		peer.leave()
	}
	p.loops.Wait()
}

// peers returns the connections of all users. While they are being opened, those that are not open yet are nil.
func (p *benchPair) peers() []*benchPeer {
	all := []*benchPeer{p.from, p.to}
	if again := p.again.Load(); again != nil {
		all = append(all, again)
	}
	for _, l := range p.others {
		all = append(all, l.peer)
	}
	return all
}

// receive reads until the connection ends. It counts every message that is pushed and calls got with when it was sent and
// when it came, in nanoseconds and time since the start.
func (p *benchPair) receive(peer *benchPeer, got func(s sighting, sent int64, now time.Duration)) error {
	for {
		text, err := peer.next()
		if err != nil {
			return err
		}
		s, sent, ok, err := p.wire.pushed(text)
		if err != nil {
			return err
		}
		if ok {
			got(s, sent, time.Since(p.start))
			p.delivered.Add(1)
		}
	}
}

// onDelivery notes what the receiver got.
func (p *benchPair) onDelivery(s sighting, sent int64, now time.Duration) {
	p.atPeer = append(p.atPeer, s)
	if p.back > 0 {
		sent = int64(p.back)
	}
	if s.index >= p.untimed {
		_ = p.delivery.RecordValue((int64(now) - sent) / 1000) // it fails above a minute, when the run has given up
	}
	p.lastDelivery = now
	if p.lockstep != nil {
		select {
		case p.lockstep <- struct{}{}:
		default: // a second delivery of the same message, which the check reports
		}
	}
}

// sendAll sends until the count is reached or the run is stopped, and reads until the connection ends.
func (p *benchPair) sendAll() error {
	done := false
	for {
		if !done {
			if err := p.fill(); err != nil {
				return err
			}
			if done = p.flying == 0 && len(p.refused) == 0; done {
				close(p.sent)
			}
		}
		text, err := p.from.next()
		if err != nil {
			return err
		}
		if index, ok := p.wire.answered(text); ok {
			if err := p.onAck(index); err != nil {
				return err
			}
			continue
		}
		s, _, ok, err := p.wire.pushed(text)
		switch {
		case err != nil:
			return err
		case ok:
			p.atSender = append(p.atSender, s)
			p.echoed.Add(1)
		default:
			if err := p.onOther(text); err != nil {
				return err
			}
		}
	}
}

// fill puts as many messages into the write buffer as the window allows. They are sent with the next read.
func (p *benchPair) fill() error {
	if len(p.refused) > 0 {
		if p.flying > 0 {
			return nil
		}
		time.Sleep(min(minBenchPause<<min(p.pauses, 10), maxBenchPause))
		p.pauses++
		repeat := p.refused
		p.refused = nil
		slices.Sort(repeat)
		for _, index := range repeat {
			if err := p.post(index); err != nil {
				return err
			}
		}
		return nil
	}
	for p.next < p.count && p.next-p.lowest < p.window && !p.stop.Load() {
		p.accepted = append(p.accepted, false)
		p.sentAt = append(p.sentAt, int64(time.Since(p.start)))
		p.next++
		if err := p.post(p.next - 1); err != nil {
			return err
		}
	}
	return nil
}

func (p *benchPair) post(index int32) error {
	p.flying++
	p.frame = p.wire.message(p.frame[:0], index, p.sentAt[index])
	return p.from.write(p.frame)
}

func (p *benchPair) onAck(index int32) error {
	if index >= p.next || p.accepted[index] {
		return fmt.Errorf("an answer to message %d, which awaits none", index)
	}
	p.lastAck = time.Since(p.start)
	if index >= p.untimed {
		_ = p.ack.RecordValue((int64(p.lastAck) - p.sentAt[index]) / 1000)
	}
	p.flying--
	p.pauses = 0
	p.accepted[index] = true
	for p.lowest < p.next && p.accepted[p.lowest] {
		p.lowest++
	}
	p.acked.Add(1)
	if p.lockstep == nil {
		return nil
	}
	select {
	case <-p.lockstep:
		return nil
	case <-time.After(p.patience):
		return fmt.Errorf("message %d was accepted but has not arrived within %v", index, p.patience)
	}
}

// onOther handles refusals and pages of history, and lets other pushes pass.
func (p *benchPair) onOther(text []byte) error {
	f, err := client.Decode(slices.Clone(text))
	switch {
	case err != nil:
		return err
	case f.ID >= historyFrame:
		select {
		case p.answers <- f:
		case <-p.ended:
		}
		return nil
	case f.Sent != nil && f.ID >= firstSend:
		return p.onAck(int32(f.ID - firstSend))
	case f.Error == nil:
		return nil
	case f.Error.Code != client.Unavailable && f.Error.Code != client.RateLimited:
		return fmt.Errorf("message %d was refused: %w", f.ID-firstSend, f.Error)
	}
	index := int32(f.ID - firstSend)
	if f.ID < firstSend || index >= p.next || p.accepted[index] {
		return fmt.Errorf("a refusal of message %d, which awaits no answer: %w", index, f.Error)
	}
	p.flying--
	p.refusals++
	p.refused = append(p.refused, index)
	return nil
}

// ask asks for a page of the pair's history. It may be called once sent is closed, by one goroutine at a time.
func (p *benchPair) ask(ctx context.Context, h client.History) (client.Page, error) {
	h.Conversation = p.conversation
	p.asked++
	id := historyFrame + p.asked
	text, err := client.Encode(id, h)
	if err != nil {
		return client.Page{}, err
	}
	if err := p.from.write(text); err != nil {
		return client.Page{}, err
	}
	if err := p.from.cork.flush(); err != nil {
		return client.Page{}, err
	}
	for {
		select {
		case <-ctx.Done():
			return client.Page{}, context.Cause(ctx)
		case f := <-p.answers:
			switch {
			case f.ID != id: // it came too late for the caller that asked for it
			case f.Error != nil:
				return client.Page{}, f.Error
			case f.Messages == nil:
				return client.Page{}, fmt.Errorf("history: unexpected answer %.200q", f.Raw)
			default:
				return *f.Messages, nil
			}
		}
	}
}

package memory

import (
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/infra/pubsub"
)

// partition is a list of records that only grows at its end, and is trimmed at its beginning.
type partition struct {
	mu      sync.Mutex
	first   int64 // offset of records[0]
	records []*message.Message
	times   []time.Time   // when each of them was appended
	grown   chan struct{} // closed by the next append
}

func newPartition() *partition { return &partition{grown: make(chan struct{})} }

func (p *partition) append(msg *message.Message) (offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = append(p.records, msg)
	p.times = append(p.times, time.Now())
	close(p.grown)
	p.grown = make(chan struct{})
	return p.first + int64(len(p.records)) - 1
}

// from returns at most limit records, beginning at the offset or at the first record after it that is kept, and the offset of
// the first. If there are none, the channel more is closed when one comes.
func (p *partition) from(offset int64, limit int) (records []*message.Message, first int64, more <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	offset = max(offset, p.first)
	if i := offset - p.first; i < int64(len(p.records)) {
		return p.records[i:min(i+int64(limit), int64(len(p.records)))], offset, nil
	}
	return nil, offset, p.grown
}

// at is like from, for one record.
func (p *partition) at(offset int64) (msg *message.Message, found int64) {
	records, found, _ := p.from(offset, 1)
	if len(records) == 0 {
		return nil, found
	}
	return records[0], found
}

// bounds returns the offset of the first record and the offset that the next one will get.
func (p *partition) bounds() (first, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first, p.first + int64(len(p.records))
}

// since returns the offset of the first record that was appended at the time or later, or of the next record to come.
func (p *partition) since(at time.Time) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearchFunc(p.times, at, time.Time.Compare)
	return p.first + int64(i)
}

func (p *partition) trim(first int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := min(first-p.first, int64(len(p.records))); n > 0 {
		p.records, p.times = p.records[n:], p.times[n:]
		p.first += n
	}
}

// progress is how far a group has come in a partition. The member that has taken the token out of owner reads the partition.
type progress struct {
	owner chan struct{}

	mu       sync.Mutex
	next     int64
	inFlight *pubsub.Bundle // from offset next on; nil if none is
}

func newProgress() *progress {
	p := &progress{owner: make(chan struct{}, 1)}
	p.owner <- struct{}{}
	return p
}

func (p *progress) get() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inFlight != nil {
		return p.next + int64(p.inFlight.Acknowledged())
	}
	return p.next
}

func (p *progress) commit(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.inFlight = next, nil
}

// send notes that the reader has the bundle, which begins at the offset.
func (p *progress) send(first int64, b *pubsub.Bundle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.inFlight = first, b
}

// left returns the records in flight that are not acknowledged, and notes that the reader has these now. It returns nil if the
// reader takes no bundles.
func (p *progress) left() *pubsub.Bundle {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inFlight == nil {
		return nil
	}
	done := p.inFlight.Acknowledged()
	p.next, p.inFlight = p.next+int64(done), &pubsub.Bundle{Records: p.inFlight.Records[done:]}
	return p.inFlight
}

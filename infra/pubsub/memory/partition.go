package memory

import (
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// partition is a list of records that only grows, and is trimmed from its beginning.
type partition struct {
	mu      sync.Mutex
	first   int64 // offset of records[0]
	records []*message.Message
	grown   chan struct{} // closed by the next append
}

func newPartition() *partition { return &partition{grown: make(chan struct{})} }

func (p *partition) append(msg *message.Message) (offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = append(p.records, msg)
	close(p.grown)
	p.grown = make(chan struct{})
	return p.first + int64(len(p.records)) - 1
}

// from returns records from the offset on, or from the first one kept after it, at most so many, and the offset of the first.
// Without any, more is closed when there is one.
func (p *partition) from(offset int64, limit int) (records []*message.Message, first int64, more <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	offset = max(offset, p.first)
	if i := offset - p.first; i < int64(len(p.records)) {
		return p.records[i:min(i+int64(limit), int64(len(p.records)))], offset, nil
	}
	return nil, offset, p.grown
}

// at is from for one record.
func (p *partition) at(offset int64) (msg *message.Message, found int64) {
	records, found, _ := p.from(offset, 1)
	if len(records) == 0 {
		return nil, found
	}
	return records[0], found
}

// bounds are the offset of the first record and the one after the last.
func (p *partition) bounds() (first, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first, p.first + int64(len(p.records))
}

func (p *partition) trim(first int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := min(first-p.first, int64(len(p.records))); n > 0 {
		p.records = p.records[n:]
		p.first += n
	}
}

// progress of a group in a partition. Whoever takes the token out of owner reads the partition.
type progress struct {
	owner chan struct{}

	mu       sync.Mutex
	next     int64
	inFlight *bundle // from next on; nil if none is
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
		return p.next + int64(p.inFlight.acknowledged())
	}
	return p.next
}

func (p *progress) commit(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.inFlight = next, nil
}

// send notes that the bundle, which begins at the offset, is with the reader.
func (p *progress) send(first int64, b *bundle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.inFlight = first, b
}

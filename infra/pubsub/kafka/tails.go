package kafka

import (
	"sync"
	"time"
)

// beginsEvery is how often End asks where the partitions begin, in order to notice that retention has removed their last
// record.
const beginsEvery = time.Second

// tails cache where the last records of a topic's partitions are, so that [Log.End] needs one request as long as it need not
// search. They are safe for concurrent use.
type tails struct {
	mu    sync.Mutex
	of    []tail
	begun time.Time // when somebody last asked where the partitions begin
}

type tail struct {
	// bare contains no record. If it is complete, then a record lies just before it, or no record lies before it at all.
	bare  span
	whole bool
	// published contains nothing but records, which this process published one after the other.
	published span
	// begin is where the partition began when somebody last asked. Retention has removed what lay before.
	begin int64
}

// span is the offsets from `from` up to but not including `to`.
type span struct{ from, to int64 }

func newTails(partitions int) *tails { return &tails{of: make([]tail, partitions)} }

// publish notes records that were published.
func (t *tails) publish(partition int32, records span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch known := &t.of[partition].published; {
	case records.from == known.to:
		known.to = records.to
	case records.to > known.to:
		*known = records
	}
}

// last returns the offsets of the last records before the offsets passed, by partition, and a search for each that is not
// known.
func (t *tails) last(before map[int32]int64) (last map[int32]int64, searches map[int32]*search) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, searches = make(map[int32]int64, len(before)), make(map[int32]*search)
	for p, b := range before {
		switch k := t.of[p]; {
		case k.published.from < b && b <= k.published.to, b == 0:
			last[p] = b - 1
		case k.whole && k.bare.from <= b && b <= k.bare.to:
			last[p] = k.bare.from - 1
			t.of[p].bare.to = b // if the partition has lost its end, what lies behind it may be written anew
		case k.bare.to <= b:
			searches[p] = &search{before: b, at: b, known: k}
			searches[p].join()
		default: // the partition has lost its end
			searches[p] = &search{before: b, at: b}
		}
	}
	return last, searches
}

// keep notes what a search has found.
func (t *tails) keep(partition int32, s *search) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := &t.of[partition]
	k.bare, k.whole = span{s.at, s.before}, s.done
}

// begin notes where the partitions begin.
func (t *tails) begin(at map[int32]int64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun = now
	for p, offset := range at {
		t.of[p].begin = offset
	}
}

// begins returns where the partitions begin, and whether it is time to ask again.
func (t *tails) begins(now time.Time) (at []int64, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at = make([]int64, len(t.of))
	for p := range t.of {
		at[p] = t.of[p].begin
	}
	return at, now.Sub(t.begun) >= beginsEvery
}

// search looks backwards from an offset for the last record before it. No record lies from `at` up to that offset. When the
// search is done, a record lies just before `at`, or none lies before it at all.
type search struct {
	before, at int64
	done       bool
	known      tail // what was known when it began
}

// join uses what is known once the search has come to the end of the known span.
func (s *search) join() {
	if s.at == s.known.bare.to {
		s.at, s.done = s.known.bare.from, s.known.whole
	}
}

// window returns the offsets to read next: at most width of them, none before begin. It returns false if the search is done.
func (s *search) window(width, begin int64) (w span, ok bool) {
	s.done = s.done || s.at <= begin
	if s.done {
		return span{}, false
	}
	from := max(s.at-width, begin)
	if s.known.bare.to < s.at {
		from = max(from, s.known.bare.to)
	}
	return span{from, s.at}, true
}

// read notes the result of reading a window: the offset of its last record, or that it contains none.
func (s *search) read(w span, last int64, found bool) {
	if found {
		s.at, s.done = last+1, true
		return
	}
	s.at = w.from
	s.join()
}

// last returns the offset of the last record. As long as the search is not done it returns the offset just before the one
// where it began.
func (s *search) last() int64 {
	if s.done {
		return s.at - 1
	}
	return s.before - 1
}

package kafka

import (
	"context"
	"fmt"
	"time"

	"millrace/events"
	"millrace/infra/pubsub"
)

const (
	// searchTime bounds how long one call of End searches for last records.
	searchTime = 500 * time.Millisecond
	// maxWindow is how many offsets of a partition one step of a search reads.
	maxWindow = 1024
)

// End returns the positions that [pubsub.Log] asks for. It asks the partitions' leaders for the offset that the next record
// will get, and finds out which offset before it is the last that has a record for readers. Mostly that is the one just
// before, but a transaction's marker or an aborted record may lie between. End searches only in partitions whose next offset
// has moved since, unless this process has published the record before it.
//
// A search takes longer than half a second if very many offsets at the end of a partition have no record. End then returns
// the offset just before the next one for now, and later calls go on searching.
func (l *Log) End(ctx context.Context) (map[int32]int64, error) {
	last, err := l.lastOffsets(ctx)
	if err != nil {
		return nil, fmt.Errorf("end of %s: %w", l.topic, err)
	}
	epochs := l.bus.continuity.epochs(l.topic)
	for p, offset := range last {
		last[p] = epochs.Position(p, offset+1).Seq - 1
	}
	return last, nil
}

// lastOffsets returns the offset of the last record of every partition, or -1 where there is none.
func (l *Log) lastOffsets(ctx context.Context) (map[int32]int64, error) {
	meta, err := l.bus.topics.get(ctx, l.topic)
	if err != nil {
		return nil, err
	}
	before, err := l.bus.listOffsets(ctx, l.topic, latest, readCommitted)
	if err != nil {
		return nil, err
	}
	last, searches := meta.tails.last(before)
	begins, due := meta.tails.begins(time.Now())
	if due {
		asked, err := l.bus.listOffsets(ctx, l.topic, earliest, readCommitted)
		if err != nil {
			return nil, err
		}
		meta.tails.begin(asked, time.Now())
		begins, _ = meta.tails.begins(time.Now())
	}
	if len(searches) > 0 {
		if err := l.search(ctx, searches, begins); err != nil {
			return nil, err
		}
		for p, s := range searches {
			meta.tails.keep(p, s)
			last[p] = s.last()
		}
	}
	for p := range last {
		if last[p] < begins[p] {
			last[p] = -1
		}
	}
	return last, nil
}

// search reads the partitions backwards, at first one offset and then more at a time, until all searches are done or the time
// is up.
func (l *Log) search(ctx context.Context, searches map[int32]*search, begins []int64) error {
	bounded, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	for width := int64(1); ; width = min(16*width, maxWindow) {
		windows := make(map[int32]span, len(searches))
		for p, s := range searches {
			if w, ok := s.window(width, begins[p]); ok {
				windows[p] = w
			}
		}
		if len(windows) == 0 {
			return nil
		}
		last, err := l.lastIn(bounded, windows)
		switch {
		case err != nil && bounded.Err() != nil && ctx.Err() == nil:
			return nil
		case err != nil:
			return err
		}
		for p, w := range windows {
			offset, found := last[p]
			searches[p].read(w, offset, found)
		}
	}
}

// lastIn returns the offset of the last record in each of the spans. Spans without a record are absent.
func (l *Log) lastIn(ctx context.Context, windows map[int32]span) (map[int32]int64, error) {
	last := make(map[int32]int64)
	r := reader{log: l, epochs: l.bus.continuity.epochs(l.topic), skip: true, cursors: make(map[int32]*cursor, len(windows))}
	for p, w := range windows {
		r.cursors[p] = &cursor{next: w.from, last: w.to - 1}
	}
	r.visit = func(record pubsub.RawRecord) error {
		last[record.Partition] = events.Offset(record.Seq)
		return nil
	}
	return last, r.run(ctx)
}

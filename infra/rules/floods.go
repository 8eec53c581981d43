package rules

import (
	"context"
	"fmt"
	"sync"

	"millrace/events"
	"millrace/infra/pubsub"
)

const (
	// FloodRecords is with how many records before it in its partition a message is compared.
	FloodRecords = 10_000
	// maxReadings bounds how many partitions are read from the log at once.
	maxReadings = 2
)

// Floods decides by the flood rules of a file which messages are too many. Whether one is depends on nothing but the rules and the
// records before it in its partition. So the decision is the same when the record comes again, also from the poison queue or
// to another process, as long as the log has these records and the rules are the same.
type Floods struct {
	file *File
	log  Log
	// readings holds an element for each partition that is being read.
	readings chan struct{}

	mu     sync.Mutex
	tracks map[int32]*track
}

// Log is the part of message-events' log that is needed; see [pubsub.Log].
type Log interface {
	Read(ctx context.Context, ranges []events.Range, visit func(pubsub.RawRecord) error) error
}

// NewFloods returns the floods of a file, which may be nil.
func NewFloods(file *File, log Log) *Floods {
	return &Floods{file: file, log: log, readings: make(chan struct{}, maxReadings), tracks: make(map[int32]*track)}
}

// Judge returns the reason why the message is one too many, or an empty string. It expects the new messages of a partition one
// at a time and in order, and may be asked about one again. It reads from the log what lies before a message and has not been
// seen.
func (f *Floods) Judge(ctx context.Context, r *events.Record) (reason string, err error) {
	if f.file == nil {
		return "", nil
	}
	set := f.file.current.Load()
	if len(set.floods) == 0 {
		return "", nil
	}
	f.mu.Lock()
	t := f.tracks[r.Partition]
	f.mu.Unlock()
	if r.Replay || t == nil || t.set != set || !t.reaches(r) {
		if t, err = f.before(ctx, set, r.Position); err != nil {
			return "", fmt.Errorf("messages before %s: %w", r.Position, err)
		}
	}
	if first, known := t.seen(r); known {
		return t.reason(first), nil
	}
	result := t.observe(r)
	f.file.count(&result)
	if !r.Replay {
		f.mu.Lock()
		f.tracks[r.Partition] = t
		f.mu.Unlock()
	}
	return result.Recall, nil
}

// Forget drops what is known of the partition.
func (f *Floods) Forget(partition int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tracks, partition)
}

// before returns a track that has seen the records before the position.
func (f *Floods) before(ctx context.Context, set *Set, pos events.Position) (*track, error) {
	select {
	case f.readings <- struct{}{}:
		defer func() { <-f.readings }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t := newTrack(set)
	last := events.Position{Partition: pos.Partition, Seq: pos.Seq - 1}
	err := pubsub.LookBack(last, FloodRecords, func(within events.Range) error {
		t = newTrack(set)
		return f.log.Read(ctx, []events.Range{within}, func(raw pubsub.RawRecord) error {
			if raw.Replay {
				return nil // it counts at its original place
			}
			e, err := events.Decode(events.TopicMessages, raw.Position, raw.Value)
			if err != nil || e.Type != events.NewMessage {
				return nil //nolint:nilerr // an invalid record is in the poison queue
			}
			t.observe(&events.Record{Event: e, Position: raw.Position, Headers: raw.Headers})
			return nil
		})
	})
	return t, err
}

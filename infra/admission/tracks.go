package admission

import (
	"context"
	"sync"

	"millrace/events"
)

// Tracks follows all partitions that a handler reads, with a [Track] each.
type Tracks struct {
	judge *Judge

	mu     sync.Mutex
	tracks map[int32]*Track
}

// NewTracks returns tracks of no partition yet.
func NewTracks(j *Judge) *Tracks { return &Tracks{judge: j, tracks: make(map[int32]*Track)} }

// Assigned begins to follow a partition after the position.
func (t *Tracks) Assigned(after events.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tracks[after.Partition] = t.judge.Follow(after)
}

// Released stops following the partition.
func (t *Tracks) Released(partition int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tracks, partition)
}

// Admits calls [Track.Admits] for a record of a partition that is followed, and returns true for other records.
func (t *Tracks) Admits(ctx context.Context, r *events.Record) bool {
	track := t.of(r.Partition)
	return track == nil || track.Admits(ctx, r)
}

// Stands calls [Track.Stands] for a record of a partition that is followed, and returns true for other records.
func (t *Tracks) Stands(ctx context.Context, r *events.Record) bool {
	track := t.of(r.Partition)
	return track == nil || track.Stands(ctx, r)
}

func (t *Tracks) of(partition int32) *Track {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tracks[partition]
}

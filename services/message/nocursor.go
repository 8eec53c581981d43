package message

import (
	"context"
	"slices"

	"millrace/events"
)

// wantUnstored makes the view collect what a client without a cursor would find neither in its history nor among its live
// pushes: records of its conversations in the log that storage is not done with. While the store is down, the group's
// committed offsets tell how far storage has come.
func (s *Service) wantUnstored(ctx context.Context, v *view) error {
	if v.stored != nil && !slices.ContainsFunc(v.partitions(), func(p int32) bool { return v.stored[p] < v.end[p] }) {
		return nil
	}
	v.done = slices.Clone(v.stored)
	if v.stored == nil {
		committed, err := s.committed.get(ctx)
		if err != nil {
			return err
		}
		v.done = s.byPartition(committed)
	}
	for p := range v.done {
		v.done[p] = min(max(v.done[p], events.EpochStart(v.end[p])), v.end[p])
	}
	v.from = slices.Clone(v.done)
	return nil
}

// awaitUnstored waits a moment until storage is done with what wantUnstored has found. Storage is mostly only just behind,
// and then the client misses nothing and need not be told.
func (s *Service) awaitUnstored(ctx context.Context, v *view) {
	through := map[int32]int64{}
	for _, p := range v.partitions() {
		if v.owes(p) {
			through[p] = v.end[p]
		}
	}
	if len(through) > 0 && v.stored != nil && s.waitStored(ctx, through, lookupWait) == nil {
		v.done = nil
	}
}

// owes reports whether the partition has, or may have, records for a client without a cursor that storage is not done with.
func (v *view) owes(p int32) bool {
	return v.done != nil && v.done[p] < v.end[p] && (v.unsure(p) || v.missed.any(p))
}

// unsure reports whether the view may lack records of the partition.
func (v *view) unsure(p int32) bool { return v.asOf == nil || v.unread[p] || v.stayUnknown[p] }

func (v *view) partitions() []int32 {
	all := make([]int32, len(v.end))
	for p := range all {
		all[p] = int32(p)
	}
	return all
}

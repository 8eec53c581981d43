package message

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// historyWait is how long Sync waits for storage when a user has missed too much and must reload by history.
const historyWait = 2 * time.Second

// Sync answers from the store up to the stored position and from the log after it. While the store is down it uses the groups
// that this node remembers, and the log alone. A user who has missed more than maxMissed reloads by history; as long as
// storage is behind, all of that is incomplete. For a client without a cursor, what storage is behind with is incomplete too,
// because no history has it yet.
func (s *Service) Sync(r *millracev1.SyncRequest, stream grpc.ServerStreamingServer[millracev1.SyncResponse]) error {
	return statusOf(s.sync(stream.Context(), r, stream.Send))
}

func (s *Service) sync(ctx context.Context, r *millracev1.SyncRequest, send func(*millracev1.SyncResponse) error) error {
	for p, through := range r.GetThrough() {
		if p < 0 || p >= s.partitions || through < 0 {
			return refuse(codes.InvalidArgument, "through %d:%d", p, through)
		}
	}
	held := &hold{all: s.caught}
	defer held.release()
	v, known, err := s.catchUp(ctx, r, held)
	if err != nil {
		return err
	}
	recovered := known && !v.missed.over
	switch {
	case !r.GetResume():
		recovered = true
		s.awaitUnstored(ctx, v)
	case !recovered:
		// The user has to reload by history once that has everything the user missed.
		behind := s.waitStored(ctx, v.wanted(r), historyWait) != nil
		v.historyBehind = behind && known
	}
	start := v.start(r, recovered || v.historyBehind)
	err = send(&millracev1.SyncResponse{Kind: &millracev1.SyncResponse_Start{Start: start}})
	if err != nil {
		return err
	}
	if start.GetRecovered() && r.GetResume() {
		if err := v.sendDeliveries(r, start, send); err != nil {
			return err
		}
	}
	end := &millracev1.SyncEnd{Memberships: v.memberships(), MembershipsKnown: v.complete(), TokensRevokedBefore: v.revokedBefore}
	if start.GetRecovered() && r.GetResume() {
		end.Rest = v.rest(start)
	}
	return send(&millracev1.SyncResponse{Kind: &millracev1.SyncResponse_End{End: end}})
}

// wanted returns the positions up to which the request asks.
func (v *view) wanted(r *millracev1.SyncRequest) map[int32]int64 {
	through := make(map[int32]int64, len(v.until))
	for p, seq := range v.until {
		if asked(r, int32(p)) {
			through[int32(p)] = seq
		}
	}
	return through
}

// rest returns the positions after which the response lacks deliveries because its page was full. Incomplete partitions are
// not among them, because they lack deliveries anyway.
func (v *view) rest(start *millracev1.SyncStart) map[int32]int64 {
	maps.DeleteFunc(v.missed.rest, func(p int32, _ int64) bool { return slices.Contains(start.GetIncomplete(), p) })
	return v.missed.rest
}

// memberships returns an error unless the groups are certain. A caller that can do with less calls Sync.
func (s *Service) memberships(
	ctx context.Context, r *millracev1.MembershipsRequest,
) (*millracev1.MembershipsResponse, error) {
	held := &hold{all: s.caught}
	defer held.release()
	v, _, err := s.catchUp(ctx, &millracev1.SyncRequest{User: r.GetUser(), Resume: true}, held)
	if err != nil {
		return nil, err
	}
	if !v.complete() {
		return nil, errStoreDown
	}
	return &millracev1.MembershipsResponse{Memberships: v.memberships(), TokensRevokedBefore: v.revokedBefore}, nil
}

// catchUp returns the user's view at the end of the log, with what the cursor misses. known is false if the cursor is not one
// of this log. If the store fails on the way, catchUp starts again without it.
func (s *Service) catchUp(
	ctx context.Context, r *millracev1.SyncRequest, held *hold,
) (v *view, known bool, err error) {
	if err := checkUser(r.GetUser()); err != nil {
		return nil, false, err
	}
	// A gateway asks with through set to an earlier end of the log, in case the log looks shorter now.
	reached := maps.Clone(r.GetThrough())
	for p, seq := range r.GetHandled() {
		if reached == nil {
			reached = map[int32]int64{}
		}
		reached[p] = max(reached[p], seq)
	}
	for _, useStore := range []bool{true, false} {
		if v, err = s.open(ctx, r.GetUser(), reached, useStore); err != nil {
			return nil, false, err
		}
		v.missed.hold = held
		if err := s.placeCursor(ctx, v, r.GetCursor()); err != nil {
			return nil, false, err
		}
		known = v.want(r)
		v.missed.page = r.GetPageBytes()
		if !r.GetResume() {
			if err = s.wantUnstored(ctx, v); err != nil {
				return nil, false, err
			}
		}
		if err = s.readStored(ctx, v); !errors.Is(err, errStoreDown) {
			break
		}
		held.release()
	}
	if err != nil {
		return nil, false, err
	}
	return v, known, s.readLog(ctx, v)
}

// placeCursor moves the end of the view to the cursor in those partitions where the client has seen records that were removed
// since from the end of what readers get. Nothing else lies between, as long as the log goes that far.
func (s *Service) placeCursor(ctx context.Context, v *view, cursor map[int32]int64) error {
	for p, at := range cursor {
		if p < 0 || int(p) >= len(v.end) || at <= v.end[p] {
			continue
		}
		bounds, err := s.bounds.get(ctx)
		if err != nil {
			return err
		}
		if at <= bounds[p].Stable {
			v.end[p], v.from[p], v.until[p] = at, at, at
		}
	}
	return nil
}

// want sets what the request asks for. It reports false, and asks for nothing, if the cursor is unknown.
func (v *view) want(r *millracev1.SyncRequest) bool {
	for p, through := range r.GetThrough() {
		v.until[p] = min(through, v.end[p])
	}
	if !r.GetResume() {
		return true
	}
	for p, at := range r.GetCursor() {
		if p < 0 || int(p) >= len(v.end) || at < 0 || at > v.end[p] {
			return false
		}
	}
	for p, at := range r.GetCursor() {
		if asked(r, p) {
			v.from[p] = at
		}
	}
	return true
}

// asked reports whether the request is about the partition.
func asked(r *millracev1.SyncRequest, p int32) bool {
	_, ok := r.GetThrough()[p]
	return ok || len(r.GetThrough()) == 0
}

func (v *view) start(r *millracev1.SyncRequest, recovered bool) *millracev1.SyncStart {
	end := v.wanted(r)
	start := &millracev1.SyncStart{Recovered: recovered, Cursor: maps.Clone(end), End: end}
	if !recovered {
		return start
	}
	for _, p := range slices.Sorted(maps.Keys(end)) {
		at, own := r.GetCursor()[p]
		switch {
		case !r.GetResume() && v.owes(p):
			start.Cursor[p] = v.done[p]
			start.Incomplete = append(start.Incomplete, p)
		case !r.GetResume() || !own:
		default:
			start.Cursor[p] = at
			if at < end[p] && (v.historyBehind || v.unsure(p)) {
				start.Incomplete = append(start.Incomplete, p)
			}
		}
	}
	return start
}

func (v *view) sendDeliveries(
	r *millracev1.SyncRequest, start *millracev1.SyncStart, send func(*millracev1.SyncResponse) error,
) error {
	var spans []*millracev1.Span
	size := 0
	flush := func() error {
		if len(spans) == 0 {
			return nil
		}
		deliveries := &millracev1.SyncDeliveries{Spans: spans}
		spans, size = nil, 0
		return send(&millracev1.SyncResponse{Kind: &millracev1.SyncResponse_Deliveries{Deliveries: deliveries}})
	}
	for _, p := range slices.Sorted(maps.Keys(v.missed.deliveries)) {
		if slices.Contains(start.GetIncomplete(), p) {
			continue
		}
		through := v.until[p]
		if at, more := v.missed.rest[p]; more {
			through = at
		}
		for _, span := range cut(p, r.GetCursor()[p], through, v.missed.deliveries[p]) {
			n := proto.Size(span)
			if size+n > maxFrameBytes {
				if err := flush(); err != nil {
					return err
				}
			}
			spans, size = append(spans, span), size+n
		}
	}
	return flush()
}

func (v *view) memberships() []*millracev1.Membership {
	all := make([]*millracev1.Membership, 0, len(v.groups))
	for group, joined := range v.groups {
		all = append(all, &millracev1.Membership{GroupId: group, JoinedSeq: joined})
	}
	slices.SortFunc(all, func(a, b *millracev1.Membership) int { return cmp.Compare(a.GetGroupId(), b.GetGroupId()) })
	return all
}

func checkUser(user int64) error {
	if user < 1 || user > events.MaxID {
		return refuse(codes.InvalidArgument, "user %d", user)
	}
	return nil
}

package message

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// knowledge says which groups a user belonged to as of a position in every partition. It is never changed. It is what a view
// came to at the end of the log: what the store says of groups may be newer than the stored positions that it said before.
type knowledge struct {
	groups map[int64]int64 // by group, the position at which the user joined
	asOf   []int64
	// revokedBefore is the time in Unix seconds before which the user's tokens are revoked, when the store was last asked.
	revokedBefore int64
}

// view holds a user's groups and the records that concern the user. It begins with what the store knows and goes on, record
// by record, to the end of the log. Its slices are indexed by partition.
type view struct {
	user   int64
	groups map[int64]int64
	asOf   []int64 // the positions that groups holds for; nil: the groups are not known
	// revokedBefore is as in knowledge.
	revokedBefore int64

	stored []int64 // the stored positions; nil: the store cannot be asked
	end    []int64 // the end of the log

	from, until []int64 // the records to collect: (from, until]
	done        []int64 // the positions up to which storage is done; nil where that does not matter
	missed      missed

	historyBehind   bool            // the client has to reload by history, and the store does not have all of that yet
	unread          []bool          // the log between asOf and end could not be read
	stayUnknown     []bool          // by partition, whether a stay ended that the view does not contain
	lastJoined      map[int32]int64 // by partition, the beginning of the latest stay in which a repeat from before it may show
	unmatchedLeaves []unmatchedLeave
}

// unmatchedLeave is the end of a stay that the view did not contain.
type unmatchedLeave struct {
	events.Position
	group int64
}

// open returns a view with the user's groups from the store or, without the store, as this node remembers them. It reads the
// end of the log last, so that the end lies after everything that the store has returned.
func (s *Service) open(ctx context.Context, user int64, handled map[int32]int64, useStore bool) (*view, error) {
	v := &view{user: user, unread: make([]bool, s.partitions), stayUnknown: make([]bool, s.partitions), lastJoined: map[int32]int64{}}
	err := errStoreDown
	if useStore {
		err = s.breaker.call(ctx, func(ctx context.Context) error { return s.ask(ctx, v) })
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if k, ok := s.known.Get(user); ok {
			v.groups, v.asOf, v.revokedBefore = maps.Clone(k.groups), k.asOf, k.revokedBefore
		}
	}
	end, err := s.ends.get(ctx)
	if err != nil {
		return nil, err
	}
	v.end = s.byPartition(end)
	for p := range v.end {
		v.end[p] = max(v.end[p], handled[int32(p)])
		if v.stored != nil {
			v.end[p] = max(v.end[p], v.stored[p])
		}
	}
	v.from, v.until = slices.Clone(v.end), slices.Clone(v.end)
	return v, nil
}

// ask reads the stored positions first, so that the groups are not older than these.
func (s *Service) ask(ctx context.Context, v *view) error {
	stored, err := s.stored.get(ctx)
	if err != nil {
		return err
	}
	memberships, err := s.store.Memberships(ctx, v.user)
	if err != nil {
		return err
	}
	if v.revokedBefore, err = s.store.RevokedBefore(ctx, v.user); err != nil {
		return err
	}
	v.stored = s.byPartition(stored)
	v.asOf = slices.Clone(v.stored)
	v.groups = make(map[int64]int64, len(memberships))
	for _, m := range memberships {
		v.groups[m.GroupID] = m.Joined
	}
	return nil
}

func (s *Service) byPartition(positions map[int32]int64) []int64 {
	all := make([]int64, s.partitions)
	for p := range all {
		all[p] = positions[int32(p)]
	}
	return all
}

// readStored collects the wanted records that the store has. What is wanted after that begins behind them.
func (s *Service) readStored(ctx context.Context, v *view) error {
	if v.stored == nil {
		return nil
	}
	var ranges []events.Range
	for p := range v.from {
		through := min(v.stored[p], v.until[p])
		if v.from[p] < through {
			ranges = append(ranges, events.Range{Partition: int32(p), After: v.from[p], Through: through})
			v.from[p] = through
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	var missed []events.Record
	err := s.breaker.call(ctx, func(ctx context.Context) (err error) {
		missed, err = s.store.Missed(ctx, v.user, ranges, maxMissed+1)
		return err
	})
	if err != nil {
		return err
	}
	for i := range missed {
		r := &missed[i]
		if err := v.missed.add(r, func() (*millracev1.Delivery, error) { return events.DeliveryOf(r) }); err != nil {
			return err
		}
	}
	return nil
}

// readLog brings the view to the end of the log and collects the wanted records on the way. Partitions with too many records,
// or whose records the log has lost, stay unread.
func (s *Service) readLog(ctx context.Context, v *view) error {
	if v.asOf == nil {
		return nil
	}
	trimmed, err := s.tail.read(ctx, v.ahead(), true, v.visit)
	if err != nil {
		return err
	}
	for _, p := range trimmed {
		// If storage is done with all of the partition, then the records that the log has lost since were poisoned, and the
		// store has returned all there is.
		v.unread[p] = v.stored == nil || v.stored[p] < v.end[p]
	}
	s.resolve(ctx, v)
	if err := s.dropRepeats(ctx, v); err != nil {
		return err
	}
	if v.complete() {
		s.known.Add(v.user, knowledge{v.groups, v.end, v.revokedBefore})
	}
	return nil
}

// dropRepeats removes messages that were sent to a group before the user joined and were repeated in the log since. The store
// recognises such a repeat by its id.
func (s *Service) dropRepeats(ctx context.Context, v *view) error {
	for p, joined := range v.lastJoined {
		err := s.lookBack(ctx, events.Position{Partition: p, Seq: joined}, func(r *logged) error {
			v.missed.drop(&r.Record)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ahead returns the ranges of the log to read. If they are too much, the longest partitions stay unread.
func (v *view) ahead() []events.Range {
	var ranges []events.Range
	for p := range v.end {
		began := events.EpochStart(v.end[p])
		r := events.Range{Partition: int32(p), After: v.asOf[p], Through: v.end[p]}
		if v.from[p] < v.until[p] {
			r.After = min(r.After, v.from[p])
		}
		switch {
		case r.After < began:
			v.unread[p] = true
		case r.After < r.Through:
			ranges = append(ranges, r)
		}
	}
	slices.SortFunc(ranges, func(a, b events.Range) int { return cmp.Compare(a.Len(), b.Len()) })
	for length(ranges) > maxTail {
		last := len(ranges) - 1
		v.unread[ranges[last].Partition] = true
		ranges = ranges[:last]
	}
	return ranges
}

// complete reports whether the view has the groups at the end of the log.
func (v *view) complete() bool { return v.asOf != nil && !slices.Contains(v.unread, true) }

// visit collects the record if it is wanted and concerns the user, and then applies what it changes in the user's groups.
func (v *view) visit(r *logged) error {
	p, group := r.Partition, r.conversation.GroupID
	joined, member := v.groups[group]
	if v.from[p] < r.Seq && r.Seq <= v.until[p] && v.concerns(r) {
		if err := v.missed.add(&r.Record, r.delivery); err != nil {
			return err
		}
		if member && joined > r.Seq-pubsub.MaxLookBack {
			v.lastJoined[p] = max(v.lastJoined[p], joined)
		}
	}
	switch {
	case joins(&r.Event, v.user):
		if r.Seq > v.asOf[p] && (!member || joined > r.Seq) {
			v.groups[group] = r.Seq
		}
	case !leaves(&r.Event, v.user):
	case r.Seq > v.asOf[p] && member && joined < r.Seq:
		delete(v.groups, group)
	case r.Seq > v.from[p]:
		v.unmatchedLeaves = append(v.unmatchedLeaves, unmatchedLeave{r.Position, group})
	}
	return nil
}

// concerns reports whether the user receives the record: those of its direct conversations, of its groups from its joining
// on, and its own joining and leaving.
func (v *view) concerns(r *logged) bool {
	if r.conversation.GroupID == 0 {
		return r.conversation.Has(v.user)
	}
	joined, member := v.groups[r.conversation.GroupID]
	// The user receives nothing about a message from before the stay.
	return member && joined < r.Seq && (r.MessageSeq == 0 || r.MessageSeq > joined) || joins(&r.Event, v.user) || r.Type == events.MemberLeft && r.User == v.user
}

// resolve finds out which of the unmatched leaves hide something. Mostly the stay was another user's, or had ended before.
// But if the view's groups are from after the leave, the records of that stay were skipped, and the user should have received
// them.
func (s *Service) resolve(ctx context.Context, v *view) {
	for _, x := range v.unmatchedLeaves {
		switch {
		case v.stayUnknown[x.Partition]:
		case x.Seq <= v.asOf[x.Partition]:
			v.stayUnknown[x.Partition] = true
		case v.stored != nil:
			stays, err := s.store.Stays(ctx, v.user, x.group)
			v.stayUnknown[x.Partition] = err != nil ||
				slices.ContainsFunc(stays, func(stay store.Membership) bool { return stay.Left == x.Seq })
		}
	}
}

func joins(e *events.Event, user int64) bool {
	return e.Type == events.MemberJoined && e.User == user ||
		e.Type == events.GroupCreated && slices.Contains(e.Members, user)
}

func leaves(e *events.Event, user int64) bool {
	return e.Type == events.MemberLeft && e.User == user || e.Type == events.GroupDissolved
}

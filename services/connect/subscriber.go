package connect

import (
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	unknownPartition = -1
	maxPushed        = 4096
)

// subscriber is what the hub knows of a session. The hub's lock guards all of it.
type subscriber struct {
	session *session
	id      string
	user    int64
	device  string
	// userType and region come from the token with which the session has connected, issued from its latest.
	userType, region string
	issued           time.Time // zero: unknown
	number           int64     // orders the sessions of the device
	gone             bool
	// established is when connecting succeeded, or zero before that.
	established time.Time

	groups map[int64]stay
	// watches holds the users whose presence the session has asked for. The value is true once the request was answered and
	// changes are pushed.
	watches map[int64]bool
	// blockers holds users of whom it was asked whether they block the session's user.
	blockers map[int64]blocker
	last     uint64 // number of the latest delivery that the session got, so that it gets each once, whichever channels match

	// While buffering is set, deliveries are kept in buffer, because the session still gets what it missed before them.
	buffering   bool
	buffer      []buffered
	bufferBytes int
	notices     [][]byte // that came meanwhile
	// skipped holds, by partition, the position up to which the session did not get the deliveries at all. It has to ask for
	// what it missed at least up to there.
	skipped map[int32]int64
	// resumeFrom holds, for all partitions, what the session had got when the first skip found it live. It must not be
	// changed.
	resumeFrom map[int32]int64
	skips      uint64 // how many of the hub's skips the session has taken into account
	place      int    // index in the hub's list of sessions
	// deliveredThrough holds, by partition, the position up to which the session has got the deliveries, or will get them
	// from its feed. It matters only if that lies after the partition's covered position.
	deliveredThrough map[int32]int64

	// feed delivers what the session missed. feeding is set while it runs; wake tells it that there is more to do.
	feed    *feed
	feeding bool
	wake    chan struct{}

	// mute holds the partitions of which something older is missing, so that their pushes have no pos. muteAll stands for all
	// partitions.
	mute    map[int32]struct{}
	muteAll bool
	// pushed holds the positions of what the session got while its groups were not known, because the feed will find these
	// again. It is nil otherwise.
	pushed map[events.Position]struct{}
}

// stay is a session's membership in a group.
type stay struct {
	joined    int64 // the session gets what lies after it
	partition int32 // the group's, if a delivery has told of the joining
}

// sees reports whether the delivery, and the message that it is about, come after the joining.
func (s stay) sees(d *millracev1.Delivery) bool {
	return d.GetSeq() > s.joined && (d.GetAbout() == 0 || d.GetAbout() > s.joined)
}

type buffered struct {
	events.Position
	push  []byte
	group int64 // the group, if the delivery came on no other channel
	stay  stay  // the session's stay in that group at that time
	span  *deliverSpan
}

// give returns the push as it is to be written to the session, or nil if it has the push, or gets it later.
func (s *subscriber) give(pos events.Position, push []byte, group int64, limit bounds) []byte {
	through, some := s.deliveredThrough[pos.Partition]
	switch {
	case some && pos.Seq <= through:
		return nil
	case some:
		delete(s.deliveredThrough, pos.Partition)
	}
	if s.buffering {
		if len(s.buffer) >= limit.frames || s.bufferBytes+len(push) > limit.bytes && len(s.buffer) > 0 {
			s.skipBuffered(pos)
			return nil
		}
		s.buffer = append(s.buffer, buffered{Position: pos, push: push, group: group, stay: s.groups[group]})
		s.bufferBytes += len(push)
		return nil
	}
	return s.dress(pos, push)
}

// skipBuffered drops the buffer and the delivery at the position. The feed asks for them once the client has what it missed.
func (s *subscriber) skipBuffered(pos events.Position) {
	if s.skipped == nil {
		s.skipped = map[int32]int64{}
	}
	s.skipped[pos.Partition] = max(s.skipped[pos.Partition], pos.Seq)
	for _, b := range s.buffer {
		s.skipped[b.Partition] = max(s.skipped[b.Partition], b.Seq)
	}
	s.buffer, s.bufferBytes = nil, 0
}

// dress removes the position from a push that must not move the client's cursor, and notes a push that comes ahead of what is
// missing.
func (s *subscriber) dress(pos events.Position, push []byte) []byte {
	if s.pushed != nil {
		if s.pushed[pos] = struct{}{}; len(s.pushed) > maxPushed {
			s.session.closeNow(closeSlow, "too much was missed: resume with the cursor")
		}
	}
	if _, mute := s.mute[pos.Partition]; mute || s.muteAll {
		return withoutPos(push)
	}
	return push
}

// positions returns, by partition, the position up to which the session has got the deliveries.
func (h *hub) positions(sub *subscriber) map[int32]int64 {
	return furthest(h.delivered(), sub.deliveredThrough)
}

// delivered returns, by partition, the position up to which the hub has delivered.
func (h *hub) delivered() map[int32]int64 {
	positions := make(map[int32]int64, len(h.partitions))
	for id, p := range h.partitions {
		if p.known {
			positions[id] = p.covered
		}
	}
	return positions
}

// deliver gives the delivery to all sessions that subscribe to one of its channels.
func (h *hub) deliver(partition int32, d *millracev1.Delivery) {
	h.deliveries++
	h.metrics.relayed.Inc()
	if h.tracer != nil {
		h.traceDelivery(d.GetTrace())
	}
	pos := events.Position{Partition: partition, Seq: d.GetSeq()}
	for _, name := range d.GetChannels() {
		c := h.channels[name]
		if c == nil {
			continue
		}
		for sub := range c.subs {
			if sub.last == h.deliveries || c.group != 0 && !sub.groups[c.group].sees(d) {
				continue
			}
			sub.last = h.deliveries
			h.applySkips(sub)
			h.metrics.pushes.Inc()
			h.giveContained(sub, pos, d.GetPush(), c.group)
		}
	}
	if d.GetChange() != nil {
		h.apply(partition, d)
	}
}

// apply applies a change of membership: a user that joins gets what comes after it, a user that leaves gets nothing more.
func (h *hub) apply(partition int32, d *millracev1.Delivery) {
	change := d.GetChange()
	group := change.GetGroupId()
	if change.GetDissolved() {
		if c := h.channels[events.Group(group)]; c != nil {
			for sub := range c.subs {
				h.exitAt(sub, group, d.GetSeq())
			}
		}
	}
	for _, user := range change.GetLeft() {
		for sub := range h.sessionsOf(user) {
			h.exitAt(sub, group, d.GetSeq())
		}
	}
	joined := false
	for _, user := range change.GetJoined() {
		for sub := range h.sessionsOf(user) {
			joined = h.enter(sub, group, stay{joined: d.GetSeq(), partition: partition}) || joined
		}
	}
	if joined {
		h.expectLate(h.partitions[partition])
	}
}

// exitAt ends a membership that began before the position.
func (h *hub) exitAt(sub *subscriber, group, seq int64) {
	if s, ok := sub.groups[group]; ok && s.joined < seq {
		h.exit(sub, group)
	}
}

func (h *hub) sessionsOf(user int64) map[*subscriber]struct{} {
	if c := h.channels[events.UserChannel(user)]; c != nil {
		return c.subs
	}
	return nil
}

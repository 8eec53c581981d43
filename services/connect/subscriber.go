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

// subscriber is what the hub knows of a session. All of it is under the hub's lock.
type subscriber struct {
	session *session
	id      string
	user    int64
	device  string
	number  int64 // orders the sessions of the device
	gone    bool
	// established is when connecting succeeded; zero before.
	established time.Time

	groups map[int64]stay
	// watches are the users whose presence it asked for; true once it was answered and is told of changes.
	watches map[int64]bool
	last    uint64 // number of the latest delivery it was given: each comes once, whatever channels match

	// While buffering, deliveries are kept here: the session is being given what it missed before them.
	buffering   bool
	buffer      []buffered
	bufferBytes int
	// skipped tells up to where deliveries of a partition were not given to it at all, so that what it missed has to be
	// asked for at least as far.
	skipped map[int32]int64
	// resumeFrom is what it had been given of all partitions when the first such skip found it live; not to be changed.
	resumeFrom map[int32]int64
	skips      uint64 // how many of the hub's skips it has taken into account
	place      int    // in the hub's list of sessions
	// deliveredThrough tells up to where the session has, or will be given by its feed, a partition's deliveries. It matters only where
	// that is more than the partition's covered.
	deliveredThrough map[int32]int64

	// feed brings it what it missed. feeding is set as long as it runs; wake tells it of more to do.
	feed    *feed
	feeding bool
	wake    chan struct{}

	// Partitions of which something older is missing: pushes of them have no pos. all stands for every one.
	mute    map[int32]struct{}
	muteAll bool
	// pushed are the positions it was given while its groups were not known: they will be found again. Nil otherwise.
	pushed map[events.Position]struct{}
}

// stay is a session's membership in a group.
type stay struct {
	joined    int64 // it sees what lies after
	partition int32 // of the group, if a delivery told of the joining
}

// sees reports whether the delivery, and the message that it is about, lie behind the joining.
func (s stay) sees(d *millracev1.Delivery) bool {
	return d.GetSeq() > s.joined && (d.GetAbout() == 0 || d.GetAbout() > s.joined)
}

type buffered struct {
	events.Position
	push  []byte
	group int64 // the group on whose channel alone it came
	stay  stay  // in that group, as the session had it then
}

// give brings the session a delivery.
func (s *subscriber) give(pos events.Position, push []byte, group int64, limit bounds) {
	through, some := s.deliveredThrough[pos.Partition]
	switch {
	case some && pos.Seq <= through:
		return
	case some:
		delete(s.deliveredThrough, pos.Partition)
	}
	if s.buffering {
		if len(s.buffer) >= limit.frames || s.bufferBytes+len(push) > limit.bytes && len(s.buffer) > 0 {
			s.skipBuffered(pos)
			return
		}
		s.buffer = append(s.buffer, buffered{pos, push, group, s.groups[group]})
		s.bufferBytes += len(push)
		return
	}
	s.session.out.text(s.dress(pos, push))
}

// skipBuffered drops what is buffered, and the delivery at the position with it: the feed asks for them when the client has
// what it missed.
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

// dress takes the position off a push that must not move the client's cursor, and notes what is shown ahead of time.
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

// positions tells up to where the session has been given every partition.
func (h *hub) positions(sub *subscriber) map[int32]int64 {
	return furthest(h.delivered(), sub.deliveredThrough)
}

// delivered tells up to where the hub has delivered every partition.
func (h *hub) delivered() map[int32]int64 {
	positions := make(map[int32]int64, len(h.partitions))
	for id, p := range h.partitions {
		if p.known {
			positions[id] = p.covered
		}
	}
	return positions
}

// deliver brings a delivery to all who subscribe to one of its channels.
func (h *hub) deliver(partition int32, d *millracev1.Delivery) {
	h.deliveries++
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

// apply follows a change of membership: who joined gets what lies after it, who left nothing more.
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

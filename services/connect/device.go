package connect

import (
	"cmp"
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// Of the sessions of one device of a user exactly one stays, on whichever gateways they are. Every session has a number: the
// time at which its connect arrived. It is read from the clock of the push nodes, which all gateways know, so it does not
// matter that the gateways' own clocks differ. The session with the highest number stays. A session that is established is
// announced to all gateways. A gateway that hears of a higher number closes its own session. A gateway that hears of a lower
// number announces its own session again, so that the other is closed: that one may have begun to listen only after the first
// announcement.
const (
	// announceAgain is how long after it was established a session is announced again, in case the first announcement was
	// lost.
	announceAgain = 5 * time.Second
	// settledAfter is how long after it was established a session's number counts. A session that is announced later has
	// begun later, because connecting takes at most AnswerTimeout and the second announcement follows soon. So a half-dead
	// session never keeps a client out, even if push nodes with different clocks took turns.
	settledAfter   = 15 * time.Second
	replacedReason = "replaced by a newer session of the device"
)

// nodeClock is what a push node's clock showed at a time of this gateway's clock.
type nodeClock struct {
	micros int64
	at     time.Time
}

// now returns what the push node's clock shows now, minus the shortest time that an acknowledgement took to arrive, or 0
// while that is not known.
func (c nodeClock) now() int64 {
	if c.micros == 0 {
		return 0
	}
	return c.micros + time.Since(c.at).Microseconds()
}

// number returns the number of a session that connects now.
func (h *hub) number() (number int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		number = max(number, s.clock.now())
	}
	return number
}

// compareSessions orders two sessions of a device.
func compareSessions(number, otherNumber int64, id, otherID string) int {
	return cmp.Or(cmp.Compare(number, otherNumber), cmp.Compare(id, otherID))
}

// establish makes the session replace the older ones of its device. It reports false and replaces none if the session is
// being closed already, or if a newer one is established: then it closes the session.
func (h *hub) establish(sub *subscriber) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sub.session.closing.Load() {
		return false
	}
	sub.established = time.Now()
	if sub.device == "" {
		return true
	}
	var older []*subscriber
	for other := range h.sessionsOf(sub.user) {
		switch {
		case other == sub || other.device != sub.device || other.established.IsZero() || other.session.closing.Load():
		case compareSessions(sub.number, other.number, sub.id, other.id) < 0:
			sub.session.close(closeReplaced, replacedReason)
			return false
		default:
			older = append(older, other)
		}
	}
	for _, other := range older {
		other.session.close(closeReplaced, replacedReason)
	}
	h.announce(sub)
	h.announced = append(h.announced, sub)
	return true
}

// announce tells the other gateways of the session through every push node, because a gateway may be attached to only some of
// them.
func (h *hub) announce(sub *subscriber) {
	signal := &millracev1.Signal{Channel: events.UserChannel(sub.user), Kind: &millracev1.Signal_Replaced{
		Replaced: &millracev1.SessionReplaced{User: sub.user, Device: sub.device, Session: sub.id, Number: sub.number},
	}}
	for s := range h.streams {
		s.signal(signal)
	}
}

// announceLost announces again what was announced a while ago.
func (h *hub) announceLost() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.announced) > 0 && time.Since(h.announced[0].established) >= announceAgain {
		sub := h.announced[0]
		h.announced = h.announced[1:]
		if !sub.gone && !sub.session.closing.Load() {
			h.announce(sub)
		}
	}
	if len(h.announced) == 0 {
		h.announced = nil
	}
}

// hear handles the announcement of another gateway's session, or of one of this gateway's own that came back.
func (h *hub) hear(sub *subscriber, other *millracev1.SessionReplaced) {
	if other.GetUser() != sub.user || other.GetDevice() != sub.device || other.GetSession() == sub.id || sub.session.closing.Load() {
		return
	}
	settled := !sub.established.IsZero() && time.Since(sub.established) >= settledAfter
	switch {
	case settled || compareSessions(sub.number, other.GetNumber(), sub.id, other.GetSession()) < 0:
		sub.session.close(closeReplaced, replacedReason)
	case !sub.established.IsZero():
		h.announce(sub)
	}
}

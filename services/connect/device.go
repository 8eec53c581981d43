package connect

import (
	"cmp"
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// Of the sessions that one device of a user has, on any gateways, exactly one stays. Every session has a number: the time
// at which its connect arrived, by the clock of the push nodes, which all gateways know, so that the clocks of gateways
// do not count. The session with the highest number stays, and a session is announced to all gateways once it is
// established. Who hears of a higher number closes its own session; who hears of a lower one announces its own again, so that
// the other closes: the other may have begun to listen after the first announcement.
const (
	// announceAgain is how long after a session was established it is announced a second time, should the first
	// announcement have been lost.
	announceAgain = 5 * time.Second
	// settledAfter is how long after a session was established its number no longer counts: what is announced then has
	// begun later, for connecting takes at most AnswerTimeout and the second announcement comes soon after. A client is so
	// never refused because of a half-dead session, even if push nodes with different clocks have taken turns.
	settledAfter   = 15 * time.Second
	replacedReason = "replaced by a newer session of the device"
)

// nodeClock is what a push node's clock showed at a time of this gateway's own.
type nodeClock struct {
	micros int64
	at     time.Time
}

// now is what the clock shows, late by the shortest time that an acknowledgement took to arrive; 0 while nothing is known.
func (c nodeClock) now() int64 {
	if c.micros == 0 {
		return 0
	}
	return c.micros + time.Since(c.at).Microseconds()
}

// number is what a session that connects now is numbered with.
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

// establish has the session take the place of the older ones of its device. It reports false, and ends none, if the session
// is being closed, or if a newer one is established already: the session is closed then.
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

// announce tells the other gateways of the session, through every push node: one that sees only some of them must hear it
// too.
func (h *hub) announce(sub *subscriber) {
	signal := &millracev1.Signal{Channel: events.UserChannel(sub.user), Kind: &millracev1.Signal_Replaced{
		Replaced: &millracev1.SessionReplaced{User: sub.user, Device: sub.device, Session: sub.id, Number: sub.number},
	}}
	for s := range h.streams {
		s.signal(signal)
	}
}

// announceLost announces a second time what was announced a while ago.
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

// hear takes the announcement of another gateway's session, or of one of this gateway's own that came back.
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

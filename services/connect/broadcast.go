package connect

import (
	"context"
	"runtime"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// noticedAtOnce is how many sessions get a notice while the hub's lock is held.
	noticedAtOnce = 128
	// maxNoticed is of how many notices the hub knows that its sessions have had them. Push nodes repeat what is a minute old
	// at most, or what the node before them has not got acknowledged.
	maxNoticed = 16_384
	// maxRevoked is of how many users the hub knows whose tokens were revoked lately. It matters for those who connect just
	// then, and while the store is down; later message nodes tell.
	maxRevoked    = 65_536
	revokedReason = "the token was revoked"
)

// broadcasts are what push nodes send to all gateways: notices, and whose tokens are revoked. Both may concern all sessions, possibly
// a hundred thousand, so a goroutine of its own goes through them, a few at a time, and deliveries do not wait. Several nodes may
// send the same. The hub's lock guards it.
type broadcasts struct {
	waiting []unacknowledged // in the order in which they came
	working bool             // a goroutine is acting on those that wait
	noticed *lru.Cache[string, struct{}]
	revoked *lru.Cache[int64, int64]
}

// unacknowledged is a broadcast with the stream on which it has to be acknowledged.
type unacknowledged struct {
	*millracev1.Broadcast
	on *stream
	// since is when the node had it first, by this gateway's clock, if the gateway has attached since, or zero.
	since time.Time
}

func newBroadcasts() broadcasts {
	noticed, _ := lru.New[string, struct{}](maxNoticed) // both fail only for a size below 1
	revoked, _ := lru.New[int64, int64](maxRevoked)
	return broadcasts{noticed: noticed, revoked: revoked}
}

// broadcast takes the broadcasts of a node, on which a goroutine acts.
func (h *hub) broadcast(s *stream, all []*millracev1.Broadcast) {
	if len(all) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range all {
		b := unacknowledged{Broadcast: one, on: s}
		if one.GetAgeMs() > 0 {
			b.since = time.Now().Add(-time.Duration(one.GetAgeMs()) * time.Millisecond)
		}
		h.broadcasts.waiting = append(h.broadcasts.waiting, b)
	}
	if !h.broadcasts.working {
		h.broadcasts.working = true
		h.wg.Go(func() { h.panics.Keep(h.ctx, h.actOnBroadcasts) })
	}
}

// actOnBroadcasts acts on what waits, in order, and acknowledges it.
func (h *hub) actOnBroadcasts(ctx context.Context) {
	for {
		b, some := h.nextBroadcast(ctx)
		if !some {
			return
		}
		switch kind := b.GetKind().(type) {
		case *millracev1.Broadcast_Notice:
			for some := range slices.Chunk(h.audience(kind.Notice, b.since), noticedAtOnce) {
				h.notice(some, kind.Notice.GetPush())
				runtime.Gosched()
			}
		case *millracev1.Broadcast_TokensRevoked:
			h.revoke(kind.TokensRevoked)
		}
		h.acknowledge(b)
	}
}

func (h *hub) nextBroadcast(ctx context.Context) (b unacknowledged, some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.broadcasts.waiting) == 0 || ctx.Err() != nil {
		h.broadcasts.waiting, h.broadcasts.working = nil, false
		return b, false
	}
	b = h.broadcasts.waiting[0]
	h.broadcasts.waiting[0] = unacknowledged{}
	h.broadcasts.waiting = h.broadcasts.waiting[1:]
	return b, true
}

func (h *hub) acknowledge(b unacknowledged) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.on.broadcasts = max(b.on.broadcasts, b.GetNumber())
	b.on.poke()
}

// audience returns the sessions that the notice is for, and none if it has been here before. With since it leaves out the
// sessions that began after that: their users may have seen the notice elsewhere.
func (h *hub) audience(n *millracev1.Notice, since time.Time) (subs []*subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known, _ := h.broadcasts.noticed.ContainsOrAdd(n.GetNoticeId(), struct{}{}); known {
		return nil
	}
	older := func(sub *subscriber) bool {
		return since.IsZero() || !sub.established.IsZero() && sub.established.Before(since)
	}
	if len(n.GetUsers()) > 0 {
		for _, user := range slices.Compact(slices.Sorted(slices.Values(n.GetUsers()))) {
			for sub := range h.sessionsOf(user) {
				if older(sub) {
					subs = append(subs, sub)
				}
			}
		}
		return subs
	}
	for _, sub := range h.sessions {
		matches := (n.GetUserType() == "" || n.GetUserType() == sub.userType) && (n.GetRegion() == "" || n.GetRegion() == sub.region)
		if matches && older(sub) {
			subs = append(subs, sub)
		}
	}
	return subs
}

// notice gives the push to the sessions. Those that do not have what they missed yet get it after that.
func (h *hub) notice(subs []*subscriber, push []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sub := range subs {
		switch {
		case sub.gone:
		case !sub.buffering:
			h.metrics.pushes.Inc()
			h.write(sub.session.out, push, nil)
		case len(sub.notices) < h.limit.frames:
			sub.notices = append(sub.notices, push)
		default:
			sub.session.closeNow(closeSlow, "too slow: resume with the cursor")
		}
	}
}

// writeNotices writes the notices that came while the session got what it missed. The lock is held.
func (h *hub) writeNotices(sub *subscriber) {
	for _, push := range sub.notices {
		h.metrics.pushes.Inc()
		h.write(sub.session.out, push, nil)
	}
	sub.notices = nil
}

// revoke closes the user's sessions whose token is revoked. Those that are just connecting are among them.
func (h *hub) revoke(r *millracev1.TokensRevoked) {
	h.mu.Lock()
	defer h.mu.Unlock()
	user := r.GetUser()
	h.broadcasts.revoked.Add(user, max(r.GetBefore(), h.revokedBefore(user)))
	for sub := range h.sessionsOf(user) {
		h.closeRevoked(sub, r.GetBefore())
	}
}

// revokedBefore returns the time before which the user's tokens are revoked, as far as the hub knows, or 0. The lock
// is held.
func (h *hub) revokedBefore(user int64) int64 {
	before, _ := h.broadcasts.revoked.Get(user)
	return before
}

// closeRevoked closes the session if its token was issued before the time. The lock is held.
func (h *hub) closeRevoked(sub *subscriber, before int64) {
	if issuedBefore(sub.issued, before) {
		sub.session.close(closeUnauthenticated, revokedReason)
	}
}

// issuedBefore reports whether a token that was issued then, or at an unknown time if that is zero, is one of those that were
// issued before the time in Unix seconds; 0 is before all.
func issuedBefore(issued time.Time, before int64) bool {
	return before > 0 && (issued.IsZero() || issued.Before(time.Unix(before, 0)))
}

// accepts makes a token that was issued then the session's, unless it is revoked: according to a message node, which may know
// no time, or to what was broadcast.
func (h *hub) accepts(sub *subscriber, issued time.Time, revokedBefore int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if issuedBefore(issued, max(revokedBefore, h.revokedBefore(sub.user))) {
		return false
	}
	sub.issued = issued
	return true
}

// errRevoked is the refusal of a token that is revoked.
func errRevoked() *refusal { return refuse(codeUnauthenticated, revokedReason) }

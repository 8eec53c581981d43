package connect

import (
	"context"
	"maps"
	"slices"

	"github.com/gorilla/websocket"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// feed delivers to a session what it missed, and then makes it live. It runs from connecting until nothing is missing, and
// again after the hub has given up a gap. It changes the session's delivery state only under the hub's lock. Its writes wait
// for room in the outbox, so that no client is too slow for what it has missed.
type feed struct {
	sub *subscriber
	gw  *Gateway

	// reached holds, by partition, the position up to which the session has got everything, or is owed it.
	reached map[int32]int64
	// first is the cursor to ask from as long as the user's groups are not known, because everything has to be searched again
	// once they are.
	first map[int32]int64
	known bool
	// pushed holds the positions of what the session got while the groups were not known.
	pushed map[events.Position]struct{}
	// owed holds the parts that were not available yet, ascending within each partition.
	owed []events.Range
	// told is set once the client may assume that nothing is missing.
	told bool
	// begun is set once the first response was delivered. After that the client cannot be told that its cursor is unknown.
	begun bool
}

func newFeed(sub *subscriber, first *cluster.Synced) *feed {
	return &feed{
		sub: sub, gw: sub.session.gw, reached: maps.Clone(first.Start.GetCursor()), known: true, told: first.Complete(),
	}
}

// feed starts the session's feed with the response of Sync.
func (h *hub) feed(sub *subscriber, f *feed, answer *cluster.Synced) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sub.feed, sub.feeding = f, true
	sub.session.spawn(func() { f.run(sub.session.ctx, answer) })
}

// run returns when the session is live and nothing is owed, or when the session ends.
func (f *feed) run(ctx context.Context, answer *cluster.Synced) {
	for ctx.Err() == nil {
		if answer != nil {
			if !f.give(ctx, answer) {
				return
			}
			if f.gw.hub.reconcile(f.sub, answer) {
				f.gw.hub.await(ctx)
				answer = f.ask(ctx)
				continue
			}
			answer = nil
		}
		switch f.release(ctx) {
		case caughtUp:
			return
		case behind:
			answer = f.ask(ctx)
		case owing:
			answer = f.retry(ctx)
		}
	}
}

// keepPushed is called when the user's groups become known. It keeps what was pushed until then, so that it is not delivered
// twice.
func (f *feed) keepPushed() {
	if f.known {
		return
	}
	f.known, f.reached = true, f.first
	if f.pushed == nil {
		f.pushed = map[events.Position]struct{}{}
	}
	maps.Copy(f.pushed, f.sub.pushed)
	f.sub.pushed, f.sub.muteAll = nil, false
}

func (f *feed) owe(r events.Range) {
	if r.After >= r.Through {
		return
	}
	f.told = false
	f.owed = append(f.owed, r)
	if f.sub.mute == nil {
		f.sub.mute = map[int32]struct{}{}
	}
	f.sub.mute[r.Partition] = struct{}{}
}

// reconcile subscribes the session to exactly the groups that the user has at the end of the log, according to the response
// of Sync, and those that the session has seen the user join since. It reports true if these are not the groups that the
// session was subscribed to: it then has to ask Sync again, because it may have missed something or got too much, and an
// earlier stay than the one it has seen begin may have ended. If the groups are not known, the session is left with none,
// because the user may have left any of them. It closes the session if the response says that its token is revoked, which may
// have been unknown when it connected.
func (h *hub) reconcile(sub *subscriber, a *cluster.Synced) (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closeRevoked(sub, a.End.GetTokensRevokedBefore())
	want := map[int64]int64{}
	for _, m := range a.End.GetMemberships() {
		want[m.GetGroupId()] = m.GetJoinedSeq()
		if s, ok := sub.groups[m.GetGroupId()]; ok && s.joined < m.GetJoinedSeq() {
			s.joined = m.GetJoinedSeq() // of an earlier stay, which has ended
			sub.groups[m.GetGroupId()] = s
		}
		later := sub.groups[m.GetGroupId()].joined > m.GetJoinedSeq()
		entered := h.enter(sub, m.GetGroupId(), stay{joined: m.GetJoinedSeq(), partition: unknownPartition})
		again = again || later || entered
	}
	goesOn := func(group int64, s stay) bool {
		joined, member := want[group]
		return member && joined == s.joined || s.partition != unknownPartition && s.joined > a.Start.GetEnd()[s.partition]
	}
	for group, s := range sub.groups {
		if _, member := want[group]; !member && !goesOn(group, s) {
			h.exit(sub, group)
			again = true
		}
	}
	// A stay that the session has been told of may have ended in what it did not get, even if the hub has seen the user come
	// back and leave once more. What was buffered for that stay may not be for this user.
	before := len(sub.buffer)
	sub.buffer = slices.DeleteFunc(sub.buffer, func(b buffered) bool { return b.group != 0 && !goesOn(b.group, b.stay) })
	again = again || len(sub.buffer) < before
	return again && a.End.GetMembershipsKnown()
}

type feedState int

const (
	caughtUp feedState = iota
	behind             // deliveries were skipped that have to be asked for
	owing              // live, but something older is missing
)

// release writes the buffered pushes, and makes the session live once nothing is left.
func (f *feed) release(ctx context.Context) feedState {
	for {
		pushes, state, done := f.unbuffer()
		if done {
			return state
		}
		for _, push := range pushes {
			if !f.writeFrame(ctx, push) {
				return caughtUp
			}
		}
	}
}

// unbuffer takes what is buffered. If nothing is, the session is live, or has to ask first.
func (f *feed) unbuffer() (pushes []outFrame, state feedState, done bool) {
	hub, sub := f.gw.hub, f.sub
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.applySkips(sub)
	if sub.buffering {
		for p, through := range sub.skipped {
			if sub.resumeFrom != nil || f.reached[p] < through {
				return nil, behind, true
			}
		}
		sub.skipped = nil
		for _, b := range sub.buffer {
			if b.Seq > f.reached[b.Partition] {
				pushes = append(pushes, outFrame{op: websocket.TextMessage, payload: sub.dress(b.Position, b.push), span: b.span})
			}
		}
		sub.buffer, sub.bufferBytes = nil, 0
		f.advance()
		if len(pushes) > 0 {
			return pushes, 0, false
		}
		f.goLive()
	}
	if !f.known || len(f.owed) > 0 {
		return nil, owing, true
	}
	f.complete()
	return nil, caughtUp, true
}

// advance notes that the session has got everything that the hub has delivered.
func (f *feed) advance() {
	for id, p := range f.gw.hub.partitions {
		if p.known && p.covered > f.reached[id] {
			f.reached[id] = p.covered
		}
	}
}

func (f *feed) goLive() {
	f.sub.buffering = false
	f.sub.deliveredThrough = nil
	for id, seq := range f.reached {
		if p := f.gw.hub.partitions[id]; p == nil || seq > p.covered {
			if f.sub.deliveredThrough == nil {
				f.sub.deliveredThrough = map[int32]int64{}
			}
			f.sub.deliveredThrough[id] = seq
		}
	}
	f.gw.hub.writeNotices(f.sub)
}

// complete ends the feed. If the client was told that something is missing, complete tells it that nothing is any more.
func (f *feed) complete() {
	f.sub.mute = nil
	if !f.told {
		f.told = true
		f.sub.session.out.text(pushFrame(struct {
			Type   string          `json:"type"`
			Cursor map[int32]int64 `json:"cursor"`
		}{pushComplete, f.gw.hub.positions(f.sub)}))
	}
	f.reached, f.first, f.pushed = nil, nil, nil
	f.sub.feeding = false
}

// ask calls Sync for what was missed since, and tries again until it succeeds. The session buffers meanwhile.
func (f *feed) ask(ctx context.Context) *cluster.Synced {
	answer, err := f.sync(ctx, f.question())
	if err != nil {
		f.sub.session.log.Warn("cannot resume a session in place", "user", f.sub.user, "error", err)
		f.sub.session.close(closeSlow, "resume with the cursor")
		return nil
	}
	f.gw.hub.learnt(answer.Start.GetEnd())
	return answer
}

func (f *feed) question() *millracev1.SyncRequest {
	hub := f.gw.hub
	handled := hub.handled()
	hub.mu.Lock()
	defer hub.mu.Unlock()
	hub.applySkips(f.sub)
	if f.sub.resumeFrom != nil {
		f.reached, f.sub.resumeFrom = f.sub.resumeFrom, nil
	}
	cursor := f.reached
	if !f.known {
		cursor = f.first
	}
	return &millracev1.SyncRequest{User: f.sub.user, Cursor: maps.Clone(cursor), Resume: true, Handled: handled}
}

func (f *feed) sync(ctx context.Context, request *millracev1.SyncRequest) (*cluster.Synced, error) {
	if err := f.gw.retries.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer f.gw.retries.Release(1)
	return f.gw.nodes.Sync(ctx, request)
}

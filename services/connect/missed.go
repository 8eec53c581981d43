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

// give writes what Sync has returned, page after page as the client reads, and notes what Sync could not return.
func (f *feed) give(ctx context.Context, a *cluster.Synced) bool {
	if f.begun && !a.Start.GetRecovered() {
		f.sub.session.closeNow(closeSlow, "too much was missed: resume with the cursor")
		return false
	}
	f.begun = true
	if !f.write(ctx, f.dressAll(a)) {
		return false
	}
	for f.known && len(a.End.GetRest()) > 0 {
		request := a.Next(f.sub.user)
		next, err := f.sync(ctx, request)
		if err != nil || !next.Start.GetRecovered() {
			f.sub.session.closeNow(closeSlow, "cannot go on: resume with the cursor")
			return false
		}
		if !f.write(ctx, f.dressPage(request, next)) {
			return false
		}
		a = next
	}
	return true
}

// write writes the pushes as the client reads. It reports false if the session ends.
func (f *feed) write(ctx context.Context, pushes [][]byte) bool {
	for _, push := range pushes {
		if !f.writeFrame(ctx, outFrame{op: websocket.TextMessage, payload: push}) {
			return false
		}
	}
	return true
}

func (f *feed) writeFrame(ctx context.Context, push outFrame) bool {
	out := f.sub.session.out
	if out.room(ctx, &out.pushes) != nil {
		return false
	}
	out.put(push)
	return true
}

// dressPage notes a further page of a response and returns its pushes. What the page lacks is owed: all of it if the groups
// are no longer known.
func (f *feed) dressPage(request *millracev1.SyncRequest, page *cluster.Synced) [][]byte {
	hub := f.gw.hub
	hub.mu.Lock()
	defer hub.mu.Unlock()
	incomplete := page.Start.GetIncomplete()
	if !page.End.GetMembershipsKnown() {
		incomplete = slices.Collect(maps.Keys(request.GetCursor()))
		page.Spans, page.End.Rest = nil, nil
	}
	for _, p := range incomplete {
		f.owe(events.Range{Partition: p, After: request.GetCursor()[p], Through: request.GetThrough()[p]})
	}
	return f.dressSpans(page.Spans)
}

// dressAll notes the response and returns those pushes that the session has not got yet.
func (f *feed) dressAll(a *cluster.Synced) [][]byte {
	hub := f.gw.hub
	hub.mu.Lock()
	defer hub.mu.Unlock()
	sub := f.sub
	hub.applySkips(sub)
	if a.End.GetMembershipsKnown() {
		f.keepPushed()
		for _, p := range a.Start.GetIncomplete() {
			f.owe(events.Range{Partition: p, After: f.reached[p], Through: a.Start.GetEnd()[p]})
		}
	} else if f.known {
		f.known, f.told, f.first = false, false, f.reached
		sub.muteAll, sub.pushed = true, map[events.Position]struct{}{}
	}
	pushes := f.dressSpans(a.Spans)
	f.reached = maps.Clone(a.Start.GetEnd())
	sub.deliveredThrough = maps.Clone(a.Start.GetEnd())
	return pushes
}

func (f *feed) dressSpans(spans []*millracev1.Span) (pushes [][]byte) {
	for _, span := range spans {
		for _, d := range span.GetDeliveries() {
			pos := events.Position{Partition: span.GetPartition(), Seq: d.GetSeq()}
			if !has(f.pushed, pos) && !has(f.sub.pushed, pos) {
				pushes = append(pushes, f.sub.dress(pos, d.GetPush()))
			}
		}
	}
	return pushes
}

func has[K comparable](set map[K]struct{}, key K) bool {
	_, ok := set[key]
	return ok
}

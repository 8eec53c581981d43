package connect

import (
	"context"
	"slices"
	"time"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// retry waits and then asks for what is owed. It returns a response if everything has to be gone through again.
func (f *feed) retry(ctx context.Context) *cluster.Synced {
	timer := time.NewTimer(cluster.Jitter(f.gw.cfg.Retry))
	defer timer.Stop()
	select {
	case <-f.sub.wake:
		return nil
	case <-ctx.Done():
		return nil
	case <-timer.C:
	}
	if !f.known {
		return f.learnGroups(ctx)
	}
	f.settle(ctx)
	return nil
}

// learnGroups begins anew once the user's groups are known.
func (f *feed) learnGroups(ctx context.Context) *cluster.Synced {
	asking, cancel := context.WithTimeout(ctx, f.gw.cfg.CallTimeout)
	defer cancel()
	groups, err := f.gw.nodes.Memberships(asking, f.sub.user)
	if err != nil {
		return nil
	}
	f.gw.hub.enterAll(f.sub, groups.GetMemberships())
	f.gw.hub.await(ctx)
	return f.ask(ctx)
}

// enterAll subscribes the session to the groups. What arrives is buffered.
func (h *hub) enterAll(sub *subscriber, groups []*millracev1.Membership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applySkips(sub)
	sub.buffering = true
	for _, m := range groups {
		h.enter(sub, m.GetGroupId(), stay{joined: m.GetJoinedSeq(), partition: unknownPartition})
	}
}

// settle asks for the first owed part of each partition.
func (f *feed) settle(ctx context.Context) {
	request := &millracev1.SyncRequest{User: f.sub.user, Cursor: map[int32]int64{}, Resume: true, Through: map[int32]int64{}}
	for _, r := range f.owed {
		if _, asked := request.Cursor[r.Partition]; !asked {
			request.Cursor[r.Partition], request.Through[r.Partition] = r.After, r.Through
		}
	}
	for len(request.GetCursor()) > 0 {
		asking, cancel := context.WithTimeout(ctx, f.gw.cfg.CallTimeout)
		answer, err := f.sync(asking, request)
		cancel()
		switch {
		case err != nil:
			return
		case !answer.Start.GetRecovered():
			f.sub.session.closeNow(closeSlow, "too much was missed: resume with the cursor")
			return
		}
		var pushes [][]byte
		for _, span := range answer.Spans {
			for _, d := range span.GetDeliveries() {
				if !has(f.pushed, events.Position{Partition: span.GetPartition(), Seq: d.GetSeq()}) {
					pushes = append(pushes, d.GetPush())
				}
			}
		}
		if !f.write(ctx, pushes) {
			return
		}
		f.pay(request, answer)
		request = answer.Next(f.sub.user)
	}
}

// pay removes from what is owed what the response contained.
func (f *feed) pay(request *millracev1.SyncRequest, answer *cluster.Synced) {
	rest := answer.End.GetRest()
	f.owed = slices.DeleteFunc(f.owed, func(r events.Range) bool {
		_, more := rest[r.Partition]
		return request.GetThrough()[r.Partition] == r.Through && !more && !slices.Contains(answer.Start.GetIncomplete(), r.Partition)
	})
	for i, r := range f.owed {
		if at, more := rest[r.Partition]; more && request.GetThrough()[r.Partition] == r.Through {
			f.owed[i].After = at
		}
	}
}

package push

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// answersWait is how long calls wait for the gateways.
	answersWait = 2 * time.Second
	// maxSessions is how many sessions of a gateway are returned at most, and maxQuestions how many calls wait at once.
	maxSessions  = 1000
	maxQuestions = 64
)

// question is what the gateways were asked by one call. The mutex of the routes guards it.
type question struct {
	waiting map[*gateway]struct{} // those that have not answered
	answers map[*gateway]*millracev1.SessionsAnswer
	done    chan struct{} // closed when nobody is waited for
}

// leave stops waiting for the gateway.
func (q *question) leave(g *gateway) {
	if _, waits := q.waiting[g]; !waits {
		return
	}
	if delete(q.waiting, g); len(q.waiting) == 0 {
		close(q.done)
	}
}

// Connections implements the call of the contract. A gateway that is detached meanwhile is left out.
func (h *Hub) Connections(ctx context.Context, r *millracev1.ConnectionsRequest) (*millracev1.ConnectionsResponse, error) {
	if r.GetLimit() < 0 || r.GetLimit() > maxSessions {
		return nil, status.Errorf(codes.InvalidArgument, "limit is not between 0 and %d", maxSessions)
	}
	return h.ask(ctx, &millracev1.SessionsQuestion{User: r.GetUser(), Limit: r.GetLimit()})
}

// Disconnect implements the call of the contract.
func (h *Hub) Disconnect(ctx context.Context, r *millracev1.DisconnectRequest) (*millracev1.DisconnectResponse, error) {
	if r.GetUser() == 0 {
		return nil, status.Error(codes.InvalidArgument, "no user")
	}
	all, err := h.ask(ctx, &millracev1.SessionsQuestion{User: r.GetUser(), Device: r.GetDevice(), Limit: maxSessions, Disconnect: true})
	if err != nil {
		return nil, err
	}
	for _, g := range all.GetGateways() {
		if g.GetSilent() {
			return nil, status.Errorf(codes.Unavailable, "gateway %s has not confirmed", g.GetName())
		}
	}
	return &millracev1.DisconnectResponse{Closed: int32(len(all.GetSessions()))}, nil
}

// ask asks all gateways that are attached.
func (h *Hub) ask(ctx context.Context, what *millracev1.SessionsQuestion) (*millracev1.ConnectionsResponse, error) {
	number, q := h.routes.ask(what)
	if q == nil {
		return nil, status.Error(codes.ResourceExhausted, "too many calls wait for the gateways")
	}
	timer := time.NewTimer(answersWait)
	defer timer.Stop()
	select {
	case <-q.done:
	case <-timer.C:
	case <-ctx.Done():
	case <-h.stop:
	}
	return h.routes.answered(number), ctx.Err()
}

// ask numbers the question and sends it to all gateways. It returns nil if too many questions wait.
func (t *routes) ask(what *millracev1.SessionsQuestion) (uint64, *question) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.questions) >= maxQuestions {
		return 0, nil
	}
	t.asked++
	what.Number = t.asked
	q := &question{waiting: make(map[*gateway]struct{}), answers: make(map[*gateway]*millracev1.SessionsAnswer), done: make(chan struct{})}
	t.questions[t.asked] = q
	for g := range t.gateways {
		q.waiting[g] = struct{}{}
		g.queue.question(what)
	}
	if len(q.waiting) == 0 {
		close(q.done)
	}
	return t.asked, q
}

// answer notes what a gateway has answered. An answer that comes too late is dropped.
func (t *routes) answer(g *gateway, a *millracev1.SessionsAnswer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.questions[a.GetNumber()]; q != nil {
		q.answers[g] = a
		q.leave(g)
	}
}

// answered ends the question and returns what the gateways have answered.
func (t *routes) answered(number uint64) *millracev1.ConnectionsResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, all := t.questions[number], &millracev1.ConnectionsResponse{}
	delete(t.questions, number)
	for g := range t.gateways {
		a, known := q.answers[g]
		all.Gateways = append(all.Gateways, &millracev1.Gateway{
			Name: g.name, Users: int32(len(g.online)), Sessions: a.GetTotal(), Silent: !known,
		})
		for _, s := range a.GetSessions() {
			s.Gateway = g.name
			all.Sessions = append(all.Sessions, s)
		}
		all.More = all.More || a.GetMore()
	}
	slices.SortFunc(all.Gateways, func(a, b *millracev1.Gateway) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(all.Sessions, func(a, b *millracev1.Session) int {
		return cmp.Or(cmp.Compare(a.GetUser(), b.GetUser()), cmp.Compare(a.GetDevice(), b.GetDevice()),
			cmp.Compare(a.GetSince(), b.GetSince()), cmp.Compare(a.GetSession(), b.GetSession()))
	})
	return all
}

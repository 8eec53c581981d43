package webhook

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// Remote is a server that gets requests, with what is known of how it fares. It is left alone for a while after many requests
// in a row have failed, or if it asks for that.
type Remote struct {
	client  *http.Client
	gate    *gate
	slots   chan struct{} // holds an element for each request under way
	timeout time.Duration
	log     *slog.Logger

	taken, refused, failures atomic.Int64 // requests
}

// NewRemote returns the remote of the endpoint: its name is for logs, and its timeout, parallel and address say what requests
// may do. Certificates are trusted as the configuration says, nil being the system's way.
func NewRemote(e *Endpoint, trust *tls.Config, log *slog.Logger) *Remote {
	never := func(context.Context) (bool, error) { return false, nil }
	return newRemote(e, trust, newGate(e.Name, never), log)
}

func newRemote(e *Endpoint, trust *tls.Config, gate *gate, log *slog.Logger) *Remote {
	return &Remote{client: newClient(e, trust), gate: gate, slots: make(chan struct{}, e.Parallel), timeout: e.Timeout, log: log}
}

// Do makes one request by the function, which gets the client to make it with. It waits until the server may get one and a slot
// is free, but returns [ErrHeld] rather than wait beyond what the context leaves for a request, or for more than a moment. An
// answer that may become another one by itself, such as 503, is an error too, which the answer comes with. No error contains
// the URL.
func (r *Remote) Do(ctx context.Context, request func(context.Context, *http.Client) (*http.Response, error)) (Answer, error) {
	if !r.slot(ctx) {
		return Answer{}, ErrHeld
	}
	defer func() { <-r.slots }()
	if err := r.gate.enter(ctx, r.timeout); err != nil {
		return Answer{}, err
	}
	response, err := request(ctx, r.client)
	if err != nil {
		return Answer{}, r.failed(ctx, withoutURL(err), 0)
	}
	a := readAnswer(response)
	switch {
	case a.OK():
		r.taken.Add(1)
	case a.Status == http.StatusGone, a.Permanent():
		r.refused.Add(1)
	}
	switch {
	case a.Status == http.StatusGone: // what that means is for the caller to say
	case a.OK(), a.Permanent():
		if r.gate.succeeded() {
			r.log.InfoContext(ctx, "the endpoint answers again")
		}
	default:
		return a, r.failed(ctx, a.Err(), a.RetryAfter)
	}
	return a, nil
}

// slot waits for a slot as long as the context leaves time for a request, and reports whether it has one.
func (r *Remote) slot(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-r.timeout))
		defer cancel()
	}
	select {
	case r.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// failed notes that a request has failed, for whatever reason that may pass, and returns the error.
func (r *Remote) failed(ctx context.Context, err error, asked time.Duration) error {
	r.failures.Add(1)
	if pause := r.gate.failed(err, asked); pause > 0 {
		r.log.WarnContext(ctx, "the endpoint fails and is left alone", "for", pause.String(), "error", err)
	}
	return err
}

// Ready returns why the server gets nothing now, or nil.
func (r *Remote) Ready() error { return r.gate.ready() }

// Close closes the connections that are idle.
func (r *Remote) Close() { r.client.CloseIdleConnections() }

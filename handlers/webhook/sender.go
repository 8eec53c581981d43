package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"millrace/events"
)

// storeTimeout bounds a call to the store.
const storeTimeout = time.Second

// Sender sends signed requests to one endpoint.
type Sender struct {
	Endpoint
	remote *Remote
	store  Store
}

// NewSender returns a sender that trusts certificates as the configuration says, nil being the system's way.
func NewSender(e Endpoint, store Store, trust *tls.Config, log *slog.Logger) *Sender {
	gate := newGate(e.Name, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		return store.WebhookDisabled(ctx, e.Name, e.URL)
	})
	return &Sender{Endpoint: e, remote: newRemote(&e, trust, gate, log.With("webhook", e.Name)), store: store}
}

// Send sends one body, when the endpoint may get it. The id is that of what the body tells, the same when it is sent again. The
// error is permanent if the endpoint will never take the body. It is [ErrHeld] while the endpoint is left alone, and from when it
// has answered 410 Gone until an operator enables it.
func (s *Sender) Send(ctx context.Context, id string, body []byte) error {
	answer, err := s.remote.Do(ctx, func(ctx context.Context, client *http.Client) (*http.Response, error) {
		return post(ctx, client, &s.Endpoint, id, body)
	})
	switch {
	case err != nil:
		return err
	case answer.Status == http.StatusGone:
		return s.disable(ctx)
	case answer.OK():
		return nil
	}
	return events.Permanent(answer.Err())
}

// disable leaves the endpoint alone until an operator enables it again.
func (s *Sender) disable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.store.DisableWebhook(ctx, s.Name, s.URL); err != nil {
		return s.remote.failed(ctx, fmt.Errorf("answered 410 Gone, which cannot be stored: %w", err), 0)
	}
	if s.remote.gate.close() {
		s.remote.log.ErrorContext(ctx, "the endpoint has answered 410 Gone: it is disabled until an operator enables it")
	}
	return ErrHeld
}

// Start finds out whether the endpoint is disabled.
func (s *Sender) Start(ctx context.Context) { s.remote.gate.look(ctx) }

// Ready returns why the endpoint gets nothing now, or nil.
func (s *Sender) Ready() error { return s.remote.Ready() }

// Close closes the connections that are idle.
func (s *Sender) Close() { s.remote.Close() }

// post sends the body, signed.
func post(ctx context.Context, client *http.Client, e *Endpoint, id string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "millrace-webhook")
	e.Keys.Sign(request.Header, id, time.Now(), body)
	return client.Do(request)
}

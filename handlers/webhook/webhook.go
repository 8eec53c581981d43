// Package webhook sends events to HTTP endpoints, after the convention of Standard Webhooks
// (https://www.standardwebhooks.com): signed with one or several secrets, with the event's id, which is the same for every
// repeat.
//
// Each endpoint is a handler of its own, with its own consumer group, progress, retries and poison queue, so an endpoint that
// is slow or dead delays no other. The router passes an endpoint's records here in batches of one partition (endpoint.go). A
// gate decides when requests may begin (gate.go): not while the endpoint fails again and again, has asked for time, or has
// answered 410 Gone, which disables it until an operator enables it. What is held back stays in the log. Addresses are checked
// when they are dialled (client.go), so that nobody reaches the inside of a network through an endpoint's name.
package webhook

import (
	"context"
	"crypto/tls"
	"log/slog"

	"go.uber.org/fx"

	"millrace/events"
)

// HandlerName is how the names of the endpoints' handlers begin: the handler of the endpoint crm is webhook-crm.
const HandlerName = "webhook"

// Module provides one handler for each endpoint. It needs the endpoints and a [Store].
var Module = fx.Module("webhook", fx.Provide(
	fx.Annotate(New, fx.OnStart((*Webhooks).Start), fx.OnStop((*Webhooks).Stop)),
	fx.Annotate((*Webhooks).Handlers, fx.ResultTags(`group:"handlers,flatten"`)),
))

// Store keeps which endpoints are disabled.
type Store interface {
	// WebhookDisabled reports whether the endpoint was disabled at this URL. At another URL it is another endpoint.
	WebhookDisabled(ctx context.Context, name, url string) (bool, error)
	// DisableWebhook disables the endpoint.
	DisableWebhook(ctx context.Context, name, url string) error
}

// Webhooks sends to all endpoints.
type Webhooks struct{ endpoints []*endpoint }

// New returns the handlers of the endpoints. It sends nothing by itself.
func New(endpoints []Endpoint, store Store, log *slog.Logger) *Webhooks {
	return newWebhooks(endpoints, store, nil, log)
}

// newWebhooks is New for endpoints whose certificates are trusted as the configuration says, nil being the system's way.
func newWebhooks(endpoints []Endpoint, store Store, trust *tls.Config, log *slog.Logger) *Webhooks {
	w := &Webhooks{}
	for _, e := range endpoints {
		w.endpoints = append(w.endpoints, newEndpoint(e, store, trust, log))
	}
	return w
}

// Start finds out which endpoints are disabled.
func (w *Webhooks) Start(ctx context.Context) {
	for _, e := range w.endpoints {
		e.Start(ctx)
	}
}

// Handlers returns what the router needs to know about each endpoint.
func (w *Webhooks) Handlers() []events.Handler {
	handlers := make([]events.Handler, len(w.endpoints))
	for i, e := range w.endpoints {
		handlers[i] = e.handler()
	}
	return handlers
}

// Stop closes the connections.
func (w *Webhooks) Stop() {
	for _, e := range w.endpoints {
		e.Close()
	}
}

// Figures say how an endpoint has fared in this process.
type Figures struct {
	Name string
	// How many requests the endpoint has taken, has refused for good, and have failed, which are repeated.
	Taken, Refused, Failed int64
	// Disabled says that it has answered 410 Gone, and that no operator has enabled it since.
	Disabled bool
}

// Figures returns those of all endpoints.
func (w *Webhooks) Figures() []Figures {
	all := make([]Figures, len(w.endpoints))
	for i, e := range w.endpoints {
		r := e.remote
		all[i] = Figures{e.Name, r.taken.Load(), r.refused.Load(), r.failures.Load(), r.gate.isDisabled()}
	}
	return all
}

// Package broadcast takes from the topics what concerns all gateways, and hands it to the push node that runs in the same
// process: the notices of system-events, and from user-events whose tokens are revoked. The push node sends it to the gateways
// that are attached to it, as every gateway is. Gateways recognise what they have had.
package broadcast

import (
	"context"
	"time"

	"go.uber.org/fx"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// The names of the handlers.
const (
	Notice     = "notice"
	Revocation = "revocation"
)

// gather keeps the brokers from being asked all the time by handlers that rarely have anything to do.
const gather = 250 * time.Millisecond

// Broadcaster sends broadcasts to all gateways. After nil they need not be sent again.
type Broadcaster interface {
	Broadcast(ctx context.Context, all ...*millracev1.Broadcast) error
}

// NoticeModule provides the handler of [NewNotice]; it needs a [Broadcaster].
func NoticeModule() fx.Option { return module(Notice, NewNotice) }

// RevocationModule provides the handler of [NewRevocation]; it needs a [Broadcaster].
func RevocationModule() fx.Option { return module(Revocation, NewRevocation) }

func module(name string, constructor func(Broadcaster) events.Handler) fx.Option {
	return fx.Module(name, fx.Provide(fx.Annotate(constructor, fx.ResultTags(`group:"handlers"`))))
}

// NewNotice returns the handler that broadcasts notices.
func NewNotice(to Broadcaster) events.Handler {
	return handler(Notice, events.TopicSystem, events.SystemNotice, to, func(e *events.Event) (*millracev1.Broadcast, error) {
		notice, err := events.NoticeOf(e)
		return &millracev1.Broadcast{Kind: &millracev1.Broadcast_Notice{Notice: notice}}, err
	})
}

// NewRevocation returns the handler that broadcasts whose tokens are revoked.
func NewRevocation(to Broadcaster) events.Handler {
	return handler(Revocation, events.TopicUsers, events.TokensRevoked, to, func(e *events.Event) (*millracev1.Broadcast, error) {
		return &millracev1.Broadcast{Kind: &millracev1.Broadcast_TokensRevoked{
			TokensRevoked: &millracev1.TokensRevoked{User: e.User, Before: e.Before},
		}}, nil
	})
}

// handler returns a handler that broadcasts what the function makes of the events of a type. A replay is broadcast as if the
// record had come only now.
func handler(
	name, topic string, of events.Type, to Broadcaster, broadcastOf func(*events.Event) (*millracev1.Broadcast, error),
) events.Handler {
	handleBatch := func(ctx context.Context, records []events.Record) []error {
		errs := make([]error, len(records))
		var all []*millracev1.Broadcast
		var from []int
		for i := range records {
			one, err := broadcastOf(&records[i].Event)
			if errs[i] = err; err == nil {
				all, from = append(all, one), append(from, i)
			}
		}
		if len(all) == 0 {
			return errs
		}
		err := to.Broadcast(ctx, all...)
		for _, i := range from {
			errs[i] = err
		}
		return errs
	}
	return events.Handler{
		Name: name, Topic: topic, Types: []events.Type{of}, Group: name + "-consumer-group", HandleBatch: handleBatch, Gather: gather,
		Handle: func(ctx context.Context, r events.Record) error { return handleBatch(ctx, []events.Record{r})[0] },
	}
}

// Package users keeps in the store what user-events tell of users: who is online, when the others were last seen, who blocks
// whom, and whose tokens are revoked.
package users

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/fx"

	"millrace/events"
)

// Group is the handler's consumer group.
const Group = "users-consumer-group"

// Store is where the handler keeps it. Records may be saved again, and a replay may come late.
type Store interface {
	// SaveUsers keeps the record with the highest position: of each user whether it is online, and of each pair of users whether
	// one blocks the other.
	SaveUsers(ctx context.Context, records []events.Record) error
	// SaveRevocations keeps of each user the latest time before which its tokens are revoked; all are tokens_revoked.
	SaveRevocations(ctx context.Context, records []events.Record) error
}

// Module provides the handler; it needs a [Store].
var Module = fx.Module("users", fx.Provide(fx.Annotate(Handler, fx.ResultTags(`group:"handlers"`))))

// Handler returns the handler for the store. All records of a batch succeed or fail together.
func Handler(store Store) events.Handler {
	return events.Handler{
		Name: "users", Topic: events.TopicUsers, Group: Group,
		Handle: func(ctx context.Context, r events.Record) error {
			return save(ctx, store, []events.Record{r})
		},
		HandleBatch: func(ctx context.Context, records []events.Record) []error {
			return slices.Repeat([]error{save(ctx, store, records)}, len(records))
		},
		Gather: 50 * time.Millisecond,
	}
}

// save saves the records of each kind in one write. It skips the types that it does not know.
func save(ctx context.Context, store Store, records []events.Record) error {
	var states, revoked []events.Record
	for _, r := range records {
		switch r.Type {
		case events.UserOnline, events.UserOffline, events.UserBlocked, events.UserUnblocked:
			states = append(states, r)
		case events.TokensRevoked:
			revoked = append(revoked, r)
		}
	}
	var errs []error
	if len(states) > 0 {
		errs = append(errs, store.SaveUsers(ctx, states))
	}
	if len(revoked) > 0 {
		errs = append(errs, store.SaveRevocations(ctx, revoked))
	}
	return errors.Join(errs...)
}

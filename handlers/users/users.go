// Package users keeps in the store what user-events tell of users: who is online, when the others were last seen, and who
// blocks whom.
package users

import (
	"context"
	"slices"
	"time"

	"go.uber.org/fx"

	"millrace/events"
)

// Group is the handler's consumer group.
const Group = "users-consumer-group"

// Store keeps the record with the highest position: of each user whether it is online, and of each pair of users whether one
// blocks the other. So records may be saved again, and a replay may come late.
type Store interface {
	SaveUsers(ctx context.Context, records []events.Record) error
}

// Module provides the handler; it needs a [Store].
var Module = fx.Module("users", fx.Provide(fx.Annotate(Handler, fx.ResultTags(`group:"handlers"`))))

// Handler returns the handler for the store. One write takes all records of a batch, so they succeed or fail together.
func Handler(store Store) events.Handler {
	return events.Handler{
		Name: "users", Topic: events.TopicUsers, Group: Group,
		Handle: func(ctx context.Context, r events.Record) error {
			return store.SaveUsers(ctx, []events.Record{r})
		},
		HandleBatch: func(ctx context.Context, records []events.Record) []error {
			return slices.Repeat([]error{store.SaveUsers(ctx, records)}, len(records))
		},
		Gather: 20 * time.Millisecond,
	}
}

// Package groups copies what happens to groups from message-events to group-events, for consumers that want nothing else, such
// as the message nodes, which have to know who may send.
//
// It copies what storage takes and nothing else, each record at least once. Its copies of a group are in the order of its
// conversation. A copy has the key, the value and the headers of its original, and the original's position in the header
// [events.OriginHeader]. One that was made again after a failure has the same event id and origin. So has one that a message node
// has made of its own change because this handler was late; it may lie before copies of earlier changes, and the handler makes
// another in its turn.
package groups

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/route"
)

// Module provides the handler; it needs an [Admission] and a [route.Publisher].
var Module = fx.Module("groups", fx.Provide(fx.Annotate(Handler, fx.ResultTags(`group:"handlers"`))))

// Name is the handler's name.
const Name = "groups"

// Admission knows what storage will make of a record before the record is stored. It needs to be asked only of changes of
// groups.
type Admission interface {
	// Assigned is called when this process begins to read a partition. Its records come in order, beginning after the
	// position.
	Assigned(after events.Position)
	// Released is called when this process stops reading a partition.
	Released(partition int32)
	// Admits reports whether storage takes the record, which may come again.
	Admits(ctx context.Context, r *events.Record) bool
}

// Handler returns what the router needs to know about the handler.
func Handler(admission Admission, to route.Publisher) events.Handler {
	c := copier{admission, to}
	return events.Handler{
		Name: Name, Topic: events.TopicMessages, Types: events.GroupChanges(), Group: "groups-consumer-group",
		Handle: func(ctx context.Context, r events.Record) error {
			return c.handle(ctx, []events.Record{r})[0]
		},
		HandleBatch: c.handle, Gather: 50 * time.Millisecond, Assigned: admission.Assigned, Released: admission.Released,
	}
}

type copier struct {
	admission Admission
	to        route.Publisher
}

// handle copies with one call. After a copy that failed none behind it is made.
func (c copier) handle(ctx context.Context, records []events.Record) []error {
	errs := make([]error, len(records))
	var copies []route.Copy
	var of []int
	for i := range records {
		r := &records[i]
		if !c.admission.Admits(ctx, r) {
			continue
		}
		copies, of = append(copies, route.CopyOf(r)), append(of, i)
	}
	if len(copies) == 0 {
		return errs
	}
	done, err := c.to.PublishCopies(ctx, events.TopicGroups, copies)
	if err == nil {
		return errs
	}
	for _, i := range of[done:] {
		errs[i] = fmt.Errorf("copy to %s: %w", events.TopicGroups, err)
	}
	return errs
}

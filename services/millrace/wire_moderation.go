package main

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/handlers/moderation"
	"millrace/infra/pubsub"
	"millrace/infra/rules"
	"millrace/infra/telemetry"
)

// recalls publishes the recalls of the moderation handler.
type recalls struct{ publisher message.Publisher }

var _ moderation.Publisher = recalls{}

func newRecalls(bus pubsub.Bus) moderation.Publisher { return recalls{bus.Publisher()} }

// PublishChanges implements [moderation.Publisher].
func (p recalls) PublishChanges(ctx context.Context, all []moderation.Change) (int, error) {
	records := make([]*message.Message, len(all))
	for i := range all {
		var err error
		if records[i], err = pubsub.NewRecord(&all[i].Event); err != nil {
			return 0, err
		}
		telemetry.Carry(ctx, records[i])
		if id := all[i].Correlation; id != "" {
			records[i].Metadata.Set(events.CorrelationHeader, id)
		}
	}
	err := p.publisher.Publish(events.TopicMessages, records...)
	if err == nil {
		return len(all), nil
	}
	var partly *pubsub.PublishError
	if errors.As(err, &partly) {
		return partly.Accepted, err
	}
	return 0, err
}

// newFloods returns the flood rules, which are none if no file of rules is configured.
func newFloods(file *rules.File, bus pubsub.Bus) moderation.Floods {
	return rules.NewFloods(file, bus.Log(events.TopicMessages))
}

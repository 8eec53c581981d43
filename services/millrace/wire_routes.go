package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/handlers"
	"millrace/handlers/route"
	"millrace/infra/pubsub"
)

const (
	// topicPatience is how long a copy waits for its topic, which other brokers may know of later than the one that has made it.
	topicPatience = time.Second
	topicPause    = 100 * time.Millisecond
)

// copies publishes the copies of the route handler.
type copies struct{ publisher message.Publisher }

var _ route.Publisher = copies{}

func newCopies(bus pubsub.Bus) route.Publisher { return copies{bus.Publisher()} }

// PublishCopies implements [route.Publisher].
func (c copies) PublishCopies(ctx context.Context, topic string, all []route.Copy) (int, error) {
	records := make([]*message.Message, len(all))
	for i, one := range all {
		records[i] = message.NewMessage(one.ID, one.Value)
		records[i].Metadata = one.Headers
		records[i].Metadata.Set(pubsub.KeyHeader, one.Key)
	}
	ctx, cancel := context.WithTimeout(ctx, topicPatience)
	defer cancel()
	for {
		err := c.publisher.Publish(topic, records...)
		if err == nil {
			return len(all), nil
		}
		if errors.Is(err, pubsub.ErrNoTopic) {
			select {
			case <-time.After(topicPause):
				continue
			case <-ctx.Done():
				return 0, fmt.Errorf("%w: %w", route.ErrNoTopic, err)
			}
		}
		var partly *pubsub.PublishError
		if errors.As(err, &partly) {
			return partly.Accepted, err
		}
		return 0, err
	}
}

// routeTopics returns the topics of the routes.
func routeTopics(routes []string) []string {
	topics := make([]string, len(routes))
	for i, name := range routes {
		topics[i] = events.RouteTopic(name)
	}
	return topics
}

// topicsOf returns the topics that the handlers read, those of all handlers there are included.
func topicsOf(running []events.Handler) []string {
	var topics []string
	for topic := range handlers.Groups() {
		topics = append(topics, topic)
	}
	for _, h := range running {
		topics = append(topics, h.Topic)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

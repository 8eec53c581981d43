package router

import (
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// readAlone reads the record of a message, which may be a replay. Handled means that the handler has to handle it, unless it is a
// repeat.
func (c *consumer) readAlone(msg *message.Message, d *delivery) (r events.Record, outcome Outcome, err error) {
	value, own := msg.Payload, msg.Metadata
	if c.skips(msg.Metadata) {
		return r, Skipped, nil
	}
	if replay := msg.Metadata.Get(ReplayHandlerHeader); replay != "" {
		if replay != c.Name {
			return r, Skipped, nil
		}
		if _, err := replayPosition(msg, d.place); err != nil {
			return r, "", err
		}
		if value, err = c.payload(msg.Context(), msg, d.Position); err != nil {
			return r, "", err
		}
		own = ownHeaders(msg)
	}
	r = events.Record{Position: d.Position, Replay: isReplay(msg), Value: value, Headers: events.HeaderMap(own)}
	outcome, err = c.read(&r)
	return r, outcome, err
}

// read sets the event and the origin of the record, decoding its value, and says what is to become of it, as [consumer.readAlone] does.
func (c *consumer) read(r *events.Record) (Outcome, error) {
	topic, original := c.Topic, r.Position
	r.Origin = events.Position{}
	if c.copies {
		var err error
		if topic, original, err = events.Original(c.Topic, r.Position, r.Headers); err != nil {
			return "", err
		}
		if topic != c.Topic {
			r.Origin = original
		}
	}
	event, err := c.decoder.decode(topic, original, r.Value)
	if err != nil {
		return "", err
	}
	r.Event = *event
	switch {
	case !r.Type.On(c.Topic) || c.unwanted(r.Type):
		return Skipped, nil
	case c.misplaced(r):
		return "", errMisplaced
	}
	return Handled, nil
}

// skips reports whether the headers say that the record is of a type that the handler does not take.
func (c *consumer) skips(headers interface{ Get(name string) string }) bool {
	return c.Types != nil && c.unwanted(events.Type(headers.Get(events.TypeHeader)))
}

// unwanted reports whether the type is one of the topic's that the handler does not take.
func (c *consumer) unwanted(t events.Type) bool {
	return c.Types != nil && t.On(c.Topic) && !slices.Contains(c.Types, t)
}

// misplaced reports whether the record lies outside the partition of its key, where its order would mean nothing.
func (c *consumer) misplaced(r *events.Record) bool {
	return events.Partition(r.Key(), c.partitions) != r.Partition
}

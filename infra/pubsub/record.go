package pubsub

import (
	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// NewRecord returns the event as a message to publish: with its key, and its type as a header.
func NewRecord(e *events.Event) (*message.Message, error) {
	data, err := events.Encode(e)
	if err != nil {
		return nil, err
	}
	id := e.EventID
	if e.Message != nil {
		id = e.Message.MessageID
	}
	msg := message.NewMessage(id, data)
	msg.Metadata.Set(KeyHeader, e.Key())
	msg.Metadata.Set(events.TypeHeader, string(e.Type))
	return msg, nil
}

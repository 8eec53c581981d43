package pubsub

import (
	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// NewRecord returns the event as a message to publish: with its key, and its type as a header. It lacks the channels of a message
// that somebody waits for to be acknowledged.
func NewRecord(e *events.Event) (*message.Message, error) {
	data, err := events.Encode(e)
	if err != nil {
		return nil, err
	}
	id := e.EventID
	if e.Message != nil {
		id = e.Message.MessageID
	}
	return &message.Message{
		UUID: id, Payload: data, Metadata: message.Metadata{KeyHeader: e.Key(), events.TypeHeader: string(e.Type)},
	}, nil
}

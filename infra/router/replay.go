package router

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// Headers of a record replayed from the poison queue. The handler named sees it at its original position, so that derived
// ids, the order of its conversation and the rule that the lowest position wins are as if it had been handled then. What
// is committed and settled is the place where the replay itself lies.
const (
	ReplayHandlerHeader  = pubsub.ReplayHandlerHeader
	ReplayPositionHeader = "millrace_replay_position"
)

func isReplay(msg *message.Message) bool { return msg.Metadata.Get(ReplayHandlerHeader) != "" }

// replayPosition is the original position of a replay; nil if the record is none, or does not say.
func replayPosition(msg *message.Message) (*events.Position, error) {
	header := msg.Metadata.Get(ReplayPositionHeader)
	if header == "" || !isReplay(msg) {
		return nil, nil
	}
	pos, err := events.ParsePosition(header)
	if err != nil {
		return nil, events.Permanent(fmt.Errorf("header %s: %w", ReplayPositionHeader, err))
	}
	return &pos, nil
}

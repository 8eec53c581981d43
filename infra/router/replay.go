package router

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// replayPrefix begins the names of a replay's headers.
const replayPrefix = "millrace_replay_"

// The headers of a record replayed from the poison queue. The handler that they name sees the record at its original
// position. So derived ids, the order of the conversation and the rule that the lowest position wins are the same as if it
// had been handled then. The position that is committed and settled is that of the replay itself.
const (
	ReplayHandlerHeader  = pubsub.ReplayHandlerHeader
	ReplayPositionHeader = replayPrefix + "position"
	// ReplayValueBytesHeader says that the replay holds only the first bytes of the value, and how many the original has. The
	// router reads the whole value from the log, at the original position, and passes that to the handler.
	ReplayValueBytesHeader = replayPrefix + "value_bytes"
)

func isReplay(msg *message.Message) bool { return msg.Metadata.Get(ReplayHandlerHeader) != "" }

// replayPosition returns the original position of a replay that lies at place, or nil if the record is no replay or does not
// say. An original comes before its replays in the same partition. Any other position is forged or wrong, and a handler that
// believed it would take what lies between for handled, so it is an error.
func replayPosition(msg *message.Message, place events.Position) (*events.Position, error) {
	header := msg.Metadata.Get(ReplayPositionHeader)
	if header == "" || !isReplay(msg) {
		return nil, nil
	}
	pos, err := events.ParsePosition(header)
	if err != nil {
		return nil, events.Permanent(fmt.Errorf("header %s: %w", ReplayPositionHeader, err))
	}
	if pos.Partition != place.Partition || pos.Seq < 1 || pos.Seq >= place.Seq {
		return nil, events.Permanent(fmt.Errorf("header %s: %s is not before %s, where the record lies", ReplayPositionHeader, pos, place))
	}
	return &pos, nil
}

// originalBytes returns the length of the original's value if the record is a replay that holds only the first bytes, else 0.
func originalBytes(msg *message.Message) int {
	n, err := strconv.Atoi(msg.Metadata.Get(ReplayValueBytesHeader))
	if err != nil || !isReplay(msg) {
		return 0
	}
	return max(n, 0)
}

// payload returns the record's value, or the original's if the record is a replay that does not hold all of it. The error is
// permanent if the log no longer has the original.
func (c *consumer) payload(ctx context.Context, msg *message.Message, original events.Position) ([]byte, error) {
	if originalBytes(msg) == 0 {
		return msg.Payload, nil
	}
	var value []byte
	found := false
	itself := events.Range{Partition: original.Partition, After: original.Seq - 1, Through: original.Seq}
	err := c.bus.Log(c.Topic).Read(ctx, []events.Range{itself}, func(r pubsub.RawRecord) error {
		value, found = r.Value, true
		return nil
	})
	switch {
	case errors.Is(err, pubsub.ErrTrimmed):
		return nil, events.Permanent(fmt.Errorf("original at %s: %w", original, err))
	case err != nil:
		return nil, fmt.Errorf("original at %s: %w", original, err)
	case !found:
		return nil, events.Permanent(fmt.Errorf("original at %s: the log has no record there", original))
	}
	return value, nil
}

package router

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
	"millrace/infra/pubsub"
)

// unbundle is the outermost stage. It takes the records of a message in order and runs each, as a message of its own, through the
// other stages, unless it was handled ahead in a batch. If one fails, or the partition is being taken away, it gives the message
// back with the records that are left. In the end it has the handler note how far it has come. Where a batch leaves records, for
// example because the store is slow, it handles the first of them alone and then tries a batch again, the next time after two,
// then after four, and so on.
func (c *consumer) unbundle(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		bundle := pubsub.BundleOf(msg)
		if bundle == nil {
			return nil, errNoBundle
		}
		records, ctx := bundle.Records, msg.Context()
		ahead := make([]bool, len(records)) // which were handled in a batch
		alone, batch := 0, 0
		var done events.Position
		for i := range records {
			if !ahead[i] && alone == batch {
				c.handleBatch(ctx, records[i:], ahead[i:])
				batch = 2*batch + 1
			}
			if !ahead[i] {
				if i > 0 && takenAway(ctx) || !succeeds(next, records[i].Message(ctx)) {
					c.advance(ctx, done)
					// The message is nacked here, because Watermill would log a line of its own for an error.
					msg.Nack()
					return nil, nil
				}
				alone++
			}
			done = records[i].Position
			if c.Settled != nil {
				c.Settled(done)
			}
			if i == len(records)-1 {
				c.advance(ctx, done)
			}
			bundle.Done(i + 1)
		}
		return nil, nil
	}
}

var errNoBundle = errors.New("the message stands for no bundle of records")

// takenAway reports whether the partition of the bundle goes to another member, or the router is stopping.
func takenAway(ctx context.Context) bool { return ctx.Err() != nil }

// succeeds runs one record through the other stages and reports whether it is done with.
func succeeds(next message.HandlerFunc, r *message.Message) bool {
	_, err := next(r)
	return err == nil
}

// advance has the handler note that it is done with everything up to the position, if that is one.
func (c *consumer) advance(ctx context.Context, done events.Position) {
	if c.Advance == nil || done.Seq == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := c.Advance(ctx, done); err != nil {
		c.log.WarnContext(ctx, "the handler cannot note how far it has come", "partition", done.Partition, "seq", done.Seq, "error", err)
	}
}

package router

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// handleBatch gives the handler all that it may take of the records at once, and tells which it has handled. The others,
// whatever the reason, are for the stages that every single record runs through.
func (c *consumer) handleBatch(messages []*message.Message) map[*message.Message]bool {
	if c.HandleBatch == nil || len(messages) < 2 {
		return nil
	}
	begin := time.Now()
	taken := make([]*message.Message, 0, len(messages))
	records := make([]events.Record, 0, len(messages))
	for _, msg := range messages {
		pos, err := c.bus.Position(msg)
		if err != nil {
			continue
		}
		if r, outcome, err := c.read(msg, pos); err == nil && outcome == Handled {
			taken, records = append(taken, msg), append(records, r)
		}
	}
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(messages[0].Context()), c.timeout)
	defer cancel()
	errs, err := c.tryBatch(ctx, records)
	if err != nil || len(errs) != len(records) {
		c.log.Warn("batch failed, its records are handled one by one", "records", len(records), "error", err)
		return nil
	}
	took := time.Since(begin) / time.Duration(len(records))
	handled := make(map[*message.Message]bool, len(records))
	for i, msg := range taken {
		if errs[i] != nil {
			continue
		}
		c.marks.Mark(ctx, records[i].EventID, records[i].Position)
		c.observe(Observation{Handler: c.Name, Outcome: Handled, Took: took})
		handled[msg] = true
	}
	return handled
}

// tryBatch makes an error of a panic.
func (c *consumer) tryBatch(ctx context.Context, records []events.Record) (errs []error, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return c.HandleBatch(ctx, records), nil
}

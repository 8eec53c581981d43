package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// handleBatch gives the handler all that it may take of the records at once, and tells which it has handled. The others,
// whatever the reason, are for the stages that every single record runs through.
func (c *consumer) handleBatch(messages []*message.Message) map[*message.Message]bool {
	if !c.batches || len(messages) < 2 {
		return nil
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(messages[0].Context()), c.timeout)
	defer cancel()
	taken, records := c.readBatch(ctx, messages)
	if len(records) == 0 {
		return nil
	}
	errs, err := c.tryBatch(ctx, records)
	if err != nil || len(errs) != len(records) {
		c.log.Warn("batch failed, its records are handled one by one", "records", len(records), "error", err)
		return nil
	}
	took := time.Since(begin) / time.Duration(len(records))
	handled := make(map[*message.Message]bool, len(records))
	marks := make([]Mark, 0, len(records))
	places := make([]events.Position, 0, len(records))
	for i, msg := range taken {
		if errs[i] != nil {
			continue
		}
		marks = append(marks, Mark{records[i].EventID, records[i].Position})
		places = append(places, records[i].Position)
		c.observe(Observation{Handler: c.Name, Outcome: Handled, Took: took, Age: age(records[i].Timestamp)})
		if c.debugs(ctx) {
			c.logger(&delivery{Position: records[i].Position, correlation: correlation(msg)}).Debug("record done", "outcome", string(Handled))
		}
		handled[msg] = true
	}
	c.marks.Mark(ctx, marks...)
	c.failures.handled(places...)
	return handled
}

// readBatch leaves out what is not to be handled, or no more: repeats of what was handled before, and of what stands
// earlier in the batch itself.
func (c *consumer) readBatch(ctx context.Context, messages []*message.Message) ([]*message.Message, []events.Record) {
	taken := make([]*message.Message, 0, len(messages))
	records := make([]events.Record, 0, len(messages))
	ids := make([]string, 0, len(messages))
	for _, msg := range messages {
		pos, err := c.bus.Position(msg)
		if err != nil || isReplay(msg) { // a replay's position would break the order of the batch
			continue
		}
		if r, outcome, err := c.read(ctx, msg, pos, pos); err == nil && outcome == Handled && !slices.Contains(ids, r.EventID) {
			taken, records, ids = append(taken, msg), append(records, r), append(ids, r.EventID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	kept := 0
	for i, at := range c.marks.Marked(ctx, ids...) {
		if !repeats(&records[i], at) {
			taken[kept], records[kept] = taken[i], records[i]
			kept++
		}
	}
	return taken[:kept], records[:kept]
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

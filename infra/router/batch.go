package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"millrace/events"
)

// handleBatch passes to the handler, as one batch, all of the records that it may take so, and returns which it has handled
// or skipped. The others, whatever the reason, go through the stages one by one.
func (c *consumer) handleBatch(messages []*message.Message) map[*message.Message]bool {
	if !c.batches || len(messages) < 2 {
		return nil
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(messages[0].Context()), c.timeout)
	defer cancel()
	taken, records, handled := c.readBatch(ctx, messages)
	if len(records) == 0 {
		return handled
	}
	ctx, spans := c.startBatch(ctx, taken, records)
	errs, err := c.tryBatch(ctx, records)
	spans.end(errs, err)
	if err != nil {
		c.log.WarnContext(ctx, "batch failed, its records are handled one by one", "records", len(records), "error", err)
		return handled
	}
	took := time.Since(begin) / time.Duration(len(records))
	marks := make([]Mark, 0, len(records))
	places := make([]events.Position, 0, len(records))
	for i, msg := range taken {
		if errs[i] != nil {
			continue
		}
		marks = append(marks, Mark{records[i].EventID, records[i].Position})
		places = append(places, records[i].Position)
		c.observe(Observation{Handler: c.Name, Outcome: Handled, Took: took, Age: age(records[i].Timestamp)})
		c.logDone(spans.of(ctx, i), msg, records[i].Position, Handled)
		handled[msg] = true
	}
	c.marks.Mark(ctx, marks...)
	c.failures.handled(places...)
	return handled
}

// readBatch decodes the records and leaves out those that are not to be handled: repeats of what was handled before, and of
// what comes earlier in the batch itself, and those that are skipped, which it returns.
func (c *consumer) readBatch(
	ctx context.Context, messages []*message.Message,
) (taken []*message.Message, records []events.Record, skipped map[*message.Message]bool) {
	taken, records = make([]*message.Message, 0, len(messages)), make([]events.Record, 0, len(messages))
	skipped = make(map[*message.Message]bool, len(messages))
	ids := make([]string, 0, len(messages))
	for _, msg := range messages {
		pos, err := c.bus.Position(msg)
		if err != nil || isReplay(msg) { // the position of a replay would break the ascending order of the batch
			continue
		}
		switch r, outcome, err := c.read(ctx, msg, pos, pos); {
		case err != nil:
		case outcome == Skipped:
			c.observe(Observation{Handler: c.Name, Outcome: Skipped})
			c.logDone(ctx, msg, pos, Skipped)
			skipped[msg] = true
		case !slices.Contains(ids, r.EventID):
			taken, records, ids = append(taken, msg), append(records, r), append(ids, r.EventID)
		}
	}
	if len(ids) == 0 {
		return nil, nil, skipped
	}
	kept := 0
	for i, at := range c.marks.Marked(ctx, ids...) {
		if !repeats(&records[i], at) {
			taken[kept], records[kept] = taken[i], records[i]
			kept++
		}
	}
	return taken[:kept], records[:kept], skipped
}

// tryBatch calls the handler, and turns a panic or a wrong number of results into an error.
func (c *consumer) tryBatch(ctx context.Context, records []events.Record) (errs []error, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	errs = c.HandleBatch(ctx, records)
	if len(errs) != len(records) {
		return nil, fmt.Errorf("%d results for %d records", len(errs), len(records))
	}
	return errs, nil
}

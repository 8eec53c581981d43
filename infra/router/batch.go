package router

import (
	"context"
	"fmt"
	"time"

	"millrace/events"
	"millrace/infra/pubsub"
)

// handleBatch passes to the handler, as one batch, all of the records that it may take so, and notes in ahead which it has
// handled or skipped. It leaves out those that are noted there already. The others, whatever the reason, go through the stages
// one by one.
func (c *consumer) handleBatch(ctx context.Context, raw []pubsub.RawRecord, ahead []bool) {
	if !c.batches || !several(ahead) {
		return
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	b := c.readBatch(ctx, raw, ahead)
	if len(b.records) == 0 {
		return
	}
	ctx, spans := c.startBatch(ctx, raw, b)
	errs, err := c.tryBatch(ctx, b.records)
	spans.end(errs, err)
	if err != nil {
		c.log.WarnContext(ctx, "batch failed, its records are handled one by one", "records", len(b.records), "error", err)
		return
	}
	marks, places := make([]Mark, 0, len(errs)), make([]events.Position, 0, len(errs))
	debugs := c.debugs(ctx)
	for i, err := range errs {
		if err != nil {
			continue
		}
		at := b.records[i].Position
		marks, places = append(marks, Mark{b.ids[i], at}), append(places, at)
		ahead[b.places[i]] = true
		if debugs {
			c.logDone(spans.of(ctx, i), correlation(raw[b.places[i]].Headers), at, Handled)
		}
	}
	c.marks.Mark(ctx, marks...)
	c.failures.handled(places...)
	c.observeBatch(b.records, errs, time.Since(begin)/time.Duration(len(errs)))
}

// several reports whether more than one record is not handled yet.
func several(ahead []bool) bool {
	left := 0
	for _, done := range ahead {
		if !done {
			left++
		}
	}
	return left > 1
}

// observeBatch reports the records that were handled. It describes those together that follow each other and are of the same
// age.
func (c *consumer) observeBatch(records []events.Record, errs []error, share time.Duration) {
	alike := Observation{Handler: c.Name, Outcome: Handled, Took: share}
	timestamp := int64(0)
	for i := range records {
		if errs[i] != nil {
			continue
		}
		if alike.Records > 0 && records[i].Timestamp != timestamp {
			c.observe(alike)
			alike.Records = 0
		}
		if alike.Records == 0 {
			timestamp = records[i].Timestamp
			alike.Age = age(timestamp)
		}
		alike.Records++
	}
	if alike.Records > 0 {
		c.observe(alike)
	}
}

// batch holds records that the handler gets at once. For each it has the event id, and which of the raw records it is.
type batch struct {
	records []events.Record
	ids     []string
	places  []int
}

// readBatch decodes the records and leaves out those that are not to be handled: repeats of what was handled before, and of
// what comes earlier in the batch itself, and those that are skipped, which it notes in ahead.
func (c *consumer) readBatch(ctx context.Context, raw []pubsub.RawRecord, ahead []bool) batch {
	var b batch
	var seen map[string]struct{}
	skipped, debugs := 0, c.debugs(ctx)
	for i := range raw {
		if ahead[i] || raw[i].Replay { // the position of a replay would break the ascending order of the batch
			continue
		}
		outcome, err := Skipped, error(nil)
		if !c.skips(raw[i].Headers) {
			if seen == nil {
				b, seen = newBatch(len(raw)-i), make(map[string]struct{}, len(raw)-i)
			}
			outcome, err = b.read(c, &raw[i], i, seen)
		}
		if err != nil || outcome != Skipped {
			continue
		}
		ahead[i] = true
		skipped++
		if debugs {
			c.logDone(ctx, correlation(raw[i].Headers), raw[i].Position, Skipped)
		}
	}
	if skipped > 0 {
		c.observe(Observation{Handler: c.Name, Outcome: Skipped, Records: skipped})
	}
	if len(b.ids) > 0 {
		b.leaveOut(c.marks.Marked(ctx, b.ids...))
	}
	return b
}

func newBatch(most int) batch {
	return batch{make([]events.Record, 0, most), make([]string, 0, most), make([]int, 0, most)}
}

// read reads the record behind the others, and removes it again unless it is to be handled and none of those seen.
func (b *batch) read(c *consumer, raw *pubsub.RawRecord, place int, seen map[string]struct{}) (Outcome, error) {
	n := len(b.records)
	r := &b.records[:n+1][n]
	r.Position, r.Value, r.Headers = raw.Position, raw.Value, raw.Headers
	outcome, err := c.read(r)
	if err != nil || outcome != Handled {
		return outcome, err
	}
	if _, repeats := seen[r.EventID]; repeats {
		return Repeated, nil
	}
	seen[r.EventID] = struct{}{}
	b.records, b.ids, b.places = b.records[:n+1], append(b.ids, r.EventID), append(b.places, place)
	return Handled, nil
}

// leaveOut removes the records that repeat what was handled at the positions.
func (b *batch) leaveOut(handled []events.Position) {
	kept := 0
	for i := range b.records {
		if repeats(&b.records[i], handled[i]) {
			continue
		}
		if kept < i {
			b.records[kept], b.ids[kept], b.places[kept] = b.records[i], b.ids[i], b.places[i]
		}
		kept++
	}
	b.records, b.ids, b.places = b.records[:kept], b.ids[:kept], b.places[:kept]
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

package message

import (
	"slices"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxMissed is the resume limit: whoever missed more reloads by history.
	maxMissed = 1000
	// maxCaught is how many bytes of pushes are collected at once for all callers.
	maxCaught = 256 << 20
	// maxFrameBytes is how large a frame of deliveries gets.
	maxFrameBytes = 256 << 10
)

// hold is how many bytes of [maxCaught] one caller takes up.
type hold struct {
	all   *semaphore.Weighted
	bytes int64
}

// take is refused as unavailable when too much is being collected by all.
func (h *hold) take(bytes int) error {
	if !h.all.TryAcquire(int64(bytes)) {
		return refuse(codes.Unavailable, "too much is being caught up with at once")
	}
	h.bytes += int64(bytes)
	return nil
}

func (h *hold) release() {
	h.all.Release(h.bytes)
	h.bytes = 0
}

// catch collects the deliveries of one answer, by partition.
type catch struct {
	hold       *hold
	deliveries map[int32][]*millracev1.Delivery
	ids        map[string]events.Position
	bytes      int64
	page       int64           // when so many bytes are collected the rest is only counted; 0: never
	rest       map[int32]int64 // by partition, from where on it is only counted
	over       bool            // more than the limit; nothing is kept
}

// add appends the record's delivery. It passes over what no client resumes by, and an event that is there already: a
// repeated send may be stored at one position and stand in the log again at another.
func (c *catch) add(r *events.Record, encode func() (*millracev1.Delivery, error)) error {
	if c.over || r.Type == events.MessageRead {
		return nil
	}
	id := r.EventID
	if r.Type == events.NewMessage {
		id = r.Message.MessageID
	}
	if _, ok := c.ids[id]; ok {
		return nil
	}
	if c.ids == nil {
		c.ids, c.deliveries, c.rest = map[string]events.Position{}, map[int32][]*millracev1.Delivery{}, map[int32]int64{}
	}
	if c.page == 0 || c.bytes < c.page {
		d, err := encode()
		if d == nil || err != nil {
			return err
		}
		if err := c.hold.take(len(d.GetPush())); err != nil {
			return err
		}
		c.deliveries[r.Partition] = append(c.deliveries[r.Partition], d)
		c.bytes += int64(len(d.GetPush()))
	} else if _, begun := c.rest[r.Partition]; !begun {
		c.rest[r.Partition] = r.Seq - 1
	}
	if c.ids[id] = r.Position; len(c.ids) > maxMissed {
		c.hold.release()
		*c = catch{hold: c.hold, over: true}
	}
	return nil
}

// some reports whether there is anything of the partition, or too much of all.
func (c *catch) some(p int32) bool {
	_, counted := c.rest[p]
	return c.over || counted || len(c.deliveries[p]) > 0
}

// drop takes out again what repeats an event of an earlier position.
func (c *catch) drop(r *events.Record) {
	at, ok := c.ids[r.EventID]
	if !ok || at.Partition != r.Partition || at.Seq <= r.Seq {
		return
	}
	delete(c.ids, r.EventID)
	c.deliveries[at.Partition] = slices.DeleteFunc(c.deliveries[at.Partition],
		func(d *millracev1.Delivery) bool { return d.GetSeq() == at.Seq })
}

// cut makes spans of at most maxFrameBytes (one delivery at least) whose ends meet, from after to through.
func cut(partition int32, after, through int64, deliveries []*millracev1.Delivery) []*millracev1.Span {
	span := &millracev1.Span{Partition: partition, After: after}
	spans := []*millracev1.Span{span}
	size := 0
	for _, d := range deliveries {
		n := proto.Size(d)
		if size > 0 && size+n > maxFrameBytes {
			last := span.GetDeliveries()[len(span.GetDeliveries())-1].GetSeq()
			span.Through = last
			span = &millracev1.Span{Partition: partition, After: last}
			spans = append(spans, span)
			size = 0
		}
		span.Deliveries = append(span.Deliveries, d)
		size += n
	}
	span.Through = through
	return spans
}

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

// missed collects the deliveries of one answer, by partition.
type missed struct {
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
func (m *missed) add(r *events.Record, encode func() (*millracev1.Delivery, error)) error {
	if m.over || r.Type == events.MessageRead {
		return nil
	}
	id := r.EventID
	if r.Type == events.NewMessage {
		id = r.Message.MessageID
	}
	if _, ok := m.ids[id]; ok {
		return nil
	}
	if m.ids == nil {
		m.ids, m.deliveries, m.rest = map[string]events.Position{}, map[int32][]*millracev1.Delivery{}, map[int32]int64{}
	}
	if m.page == 0 || m.bytes < m.page {
		d, err := encode()
		if d == nil || err != nil {
			return err
		}
		if err := m.hold.take(len(d.GetPush())); err != nil {
			return err
		}
		m.deliveries[r.Partition] = append(m.deliveries[r.Partition], d)
		m.bytes += int64(len(d.GetPush()))
	} else if _, begun := m.rest[r.Partition]; !begun {
		m.rest[r.Partition] = r.Seq - 1
	}
	if m.ids[id] = r.Position; len(m.ids) > maxMissed {
		m.hold.release()
		*m = missed{hold: m.hold, over: true}
	}
	return nil
}

// any reports whether there is anything of the partition, or too much of all.
func (m *missed) any(p int32) bool {
	_, counted := m.rest[p]
	return m.over || counted || len(m.deliveries[p]) > 0
}

// drop takes out again what repeats an event of an earlier position.
func (m *missed) drop(r *events.Record) {
	at, ok := m.ids[r.EventID]
	if !ok || at.Partition != r.Partition || at.Seq <= r.Seq {
		return
	}
	delete(m.ids, r.EventID)
	m.deliveries[at.Partition] = slices.DeleteFunc(m.deliveries[at.Partition],
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

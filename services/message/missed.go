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
	// maxMissed is the resume limit: a client that has missed more must reload by history.
	maxMissed = 1000
	// maxCaught bounds the bytes of pushes that are collected at the same time for all callers.
	maxCaught = 256 << 20
	// maxFrameBytes bounds the size of a frame of deliveries.
	maxFrameBytes = 256 << 10
)

// hold is one caller's share of [maxCaught].
type hold struct {
	all   *semaphore.Weighted
	bytes int64
}

// take adds to the share. It returns UNAVAILABLE if all callers together collect too much.
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

// missed collects the deliveries of one response, by partition.
type missed struct {
	hold       *hold
	deliveries map[int32][]*millracev1.Delivery
	ids        map[string]events.Position
	bytes      int64
	page       int64           // once so many bytes are collected, the rest is only counted; 0: never
	rest       map[int32]int64 // by partition, the position after which deliveries are only counted
	over       bool            // there are more than maxMissed; nothing is kept then
}

// add appends the record's delivery. It skips records that no client resumes, and events that it has already: a repeated send
// may be stored at one position and be in the log again at another.
func (m *missed) add(r *events.Record, encode func() (*millracev1.Delivery, error)) error {
	if m.over || !resumes(r.Type) {
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

// resumes reports whether clients resume pushes of the type, which then have a position.
func resumes(t events.Type) bool {
	return t != events.MessageRead && t != events.ConversationSettings && t != events.MessageModerated
}

// any reports whether anything of the partition was missed, or too much of all partitions.
func (m *missed) any(p int32) bool {
	_, counted := m.rest[p]
	return m.over || counted || len(m.deliveries[p]) > 0
}

// drop removes the event of the record if it was collected from a later position.
func (m *missed) drop(r *events.Record) {
	at, ok := m.ids[r.EventID]
	if !ok || at.Partition != r.Partition || at.Seq <= r.Seq {
		return
	}
	delete(m.ids, r.EventID)
	m.deliveries[at.Partition] = slices.DeleteFunc(m.deliveries[at.Partition],
		func(d *millracev1.Delivery) bool { return d.GetSeq() == at.Seq })
}

// cut splits the deliveries into spans of at most maxFrameBytes, or one delivery if that is larger. Each span begins where
// the one before ends; together they reach from after to through.
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

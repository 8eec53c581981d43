package router

import (
	"hash/maphash"
	"sync/atomic"

	"millrace/events"
)

const (
	// decoderSlots is a multiple of what the handlers of one process are apart when they keep up.
	decoderSlots = 4096
	// maxShared bounds the bytes of a record that is kept, so that all of them together take at most 16 MiB.
	maxShared = 4 << 10
)

// decoder decodes a record once for all handlers of the process, which come to it at about the same time. It keeps the latest
// valid records, each in the slot that its position gives it.
type decoder struct {
	seed  maphash.Seed
	slots [decoderSlots]atomic.Pointer[decoded]
}

type decoded struct {
	topic  string
	at     events.Position
	digest uint64 // of the record's value; the value itself would keep all of the fetch that it came with
	event  events.Event
}

func newDecoder() *decoder { return &decoder{seed: maphash.MakeSeed()} }

// decode is [events.Decode]. Nobody may change the event.
func (d *decoder) decode(topic string, at events.Position, value []byte) (*events.Event, error) {
	digest := maphash.Bytes(d.seed, value)
	slot := &d.slots[(uint64(at.Seq)+uint64(at.Partition)*509)%decoderSlots]
	if kept := slot.Load(); kept != nil && kept.at == at && kept.topic == topic && kept.digest == digest {
		return &kept.event, nil
	}
	fresh := &decoded{topic: topic, at: at, digest: digest}
	if err := events.DecodeNew(&fresh.event, topic, at, value); err != nil {
		return nil, err
	}
	if len(value) <= maxShared {
		slot.Store(fresh)
	}
	return &fresh.event, nil
}

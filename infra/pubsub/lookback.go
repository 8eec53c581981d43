package pubsub

import (
	"errors"

	"millrace/events"
)

// MaxLookBack is how far back a repeat of an event is recognised, in records of its partition.
const MaxLookBack = 1000

// LookBack calls read for that many records up to the position, or for fewer if read returns [ErrTrimmed] because the log begins
// later. It returns any other error of read.
func LookBack(from events.Position, records int64, read func(events.Range) error) error {
	begin := events.EpochStart(from.Seq)
	for n := records; n > 0; n /= 2 {
		behind := events.Range{Partition: from.Partition, After: max(from.Seq-n, begin), Through: from.Seq}
		if behind.Len() == 0 {
			return nil
		}
		if err := read(behind); !errors.Is(err, ErrTrimmed) {
			return err
		}
	}
	return nil
}

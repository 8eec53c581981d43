package pubsub

import (
	"errors"

	"millrace/events"
)

// MaxLookBack is how many records before its own a repeat of an event is recognised from.
const MaxLookBack = 1000

// LookBack has the [MaxLookBack] records up to the position read; fewer where the log begins behind them, which read tells by
// [ErrTrimmed]. Any other error of read is returned.
func LookBack(from events.Position, read func(events.Range) error) error {
	begin := events.EpochStart(from.Seq)
	for n := int64(MaxLookBack); n > 0; n /= 2 {
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

package pubsub

import (
	"context"
	"errors"

	"millrace/events"
)

// lookBack is how far before its own place in a partition a repeat of an event is recognised from.
const lookBack = 1000

// LookBack visits the 1,000 records up to the position, ascending; fewer where the log has fewer left or begins anew.
func LookBack(ctx context.Context, log Log, from events.Position, visit func(RawRecord) error) error {
	begin := events.EpochStart(from.Seq)
	for n := int64(lookBack); n > 0; n /= 2 {
		behind := events.Range{Partition: from.Partition, After: max(from.Seq-n, begin), Through: from.Seq}
		if behind.Len() == 0 {
			return nil
		}
		// Where the log begins can only be tried.
		if err := log.Read(ctx, []events.Range{behind}, visit); !errors.Is(err, ErrTrimmed) {
			return err
		}
	}
	return nil
}

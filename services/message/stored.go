package message

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/events"
)

const (
	// lookupWait is how long a page of history waits for what is to stand in it.
	lookupWait = time.Second
	// storedPause is the longest pause between two looks at what is stored.
	storedPause = 50 * time.Millisecond
)

// storedNow waits until storage is done with all that the log has by now, of the conversation's partition or, without
// one, of all. It gives up with an error after [lookupWait].
func (s *Service) storedNow(ctx context.Context, conversation string) error {
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	ends, err := s.ends.get(ctx)
	if err != nil {
		return err
	}
	if conversation != "" {
		p := events.Partition(conversation, s.partitions)
		ends = map[int32]int64{p: ends[p]}
	}
	return s.waitStored(ctx, ends, lookupWait)
}

// soonStored has a reader wait a moment for storage, so that what it was told of just before is in what it reads. Where
// storage is further behind, or not to be asked, the reader gets what there is.
func (s *Service) soonStored(ctx context.Context, conversation string) {
	if err := s.storedNow(ctx, conversation); err != nil {
		s.log.DebugContext(ctx, "reading what storage has", "conversation", conversation, "error", err)
	}
}

// waitStored returns once storage is done with everything through the positions, or with an error after the time given.
func (s *Service) waitStored(ctx context.Context, through map[int32]int64, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, storedPause) {
		stored, err := s.stored.get(ctx)
		if err == nil && reached(through, stored) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("through %v: %w", through, errors.Join(errNotStored, err))
		}
		sleep(ctx, pause)
	}
}

// reached reports whether the positions are as far in every partition.
func reached(through, positions map[int32]int64) bool {
	for p, seq := range through {
		if positions[p] < seq {
			return false
		}
	}
	return true
}

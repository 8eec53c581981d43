package message

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/events"
)

const (
	// lookupWait is how long a page of history waits for what should be in it.
	lookupWait = time.Second
	// storedPause is the longest pause between two looks at the stored positions.
	storedPause = 50 * time.Millisecond
)

// storedNow waits until storage is done with everything that the log has now, in the conversation's partition or, without a
// conversation, in all. After [lookupWait] it gives up with an error.
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

// soonStored waits a moment for storage, so that a reader finds what it was told of just before. If storage is further
// behind, or the store does not respond, it returns an error, and the reader gets what there is.
func (s *Service) soonStored(ctx context.Context, conversation string) error {
	err := s.storedNow(ctx, conversation)
	if err != nil {
		s.log.DebugContext(ctx, "reading what storage has", "conversation", conversation, "error", err)
	}
	return err
}

// waitStored returns once storage is done with everything up to the positions, or with an error after the time atMost.
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

// reached reports whether the positions have come as far as through in every partition.
func reached(through, positions map[int32]int64) bool {
	for p, seq := range through {
		if positions[p] < seq {
			return false
		}
	}
	return true
}

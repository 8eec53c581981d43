package message

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"millrace/events"
	"millrace/infra/pubsub"
)

const (
	followTimeout = 2 * time.Second
	// maxFollowed is how many records a follower reads to catch up. If there are more, it begins anew at the end, which is
	// cheaper.
	maxFollowed = 10_000
)

// follower sees every record of a topic from where it began, when it was first asked to catch up. It works only while somebody asks:
// it asks once for the ends of the topic, and reads if records were added.
type follower struct {
	name  string
	topic pubsub.Log
	begin func(context.Context) (map[int32]int64, error)
	see   func(*events.Record)
	lost  func()
	steps *shared[struct{}]
	waits breaker // of those who wait for a step

	at map[int32]int64 // the positions up to which it has seen everything; used by one step at a time

	mu       sync.Mutex
	caughtUp time.Time // when it asked for the end up to which it has seen everything
}

// newFollower returns a follower of the topic with the name. It begins after the positions that begin returns or, if begin is
// nil, at the end. It calls see for each event in the order of its partition, and lost when it may have missed some, as when
// it begins at the end. Both are called before catchUp returns.
func newFollower(
	name string, topic pubsub.Log, t *tasks, begin func(context.Context) (map[int32]int64, error),
	see func(*events.Record), lost func(),
) *follower {
	f := &follower{name: name, topic: topic, begin: begin, see: see, lost: lost}
	f.steps = newShared(t, 0, followTimeout, func(ctx context.Context) (struct{}, error) { return struct{}{}, f.step(ctx) })
	return f
}

// catchUp returns once the follower has seen everything that the topic had when it was called.
func (f *follower) catchUp(ctx context.Context) error {
	_, err := f.steps.get(ctx)
	return err
}

// upToDate reports whether the follower has seen every change that holds by now. It waits only if nobody has asked for the end
// of the topic within a lease, and not again soon after that was in vain.
func (f *follower) upToDate(ctx context.Context) bool {
	return f.keepsUp(lease) || f.waits.call(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, staleWait)
		defer cancel()
		return f.catchUp(ctx)
	}) == nil
}

// keepsUp reports whether the follower has seen everything that the topic had so long ago. After half of that time it starts
// catching up in the background, so that callers who ask regularly need not wait.
func (f *follower) keepsUp(within time.Duration) bool {
	f.mu.Lock()
	behind := time.Since(f.caughtUp)
	f.mu.Unlock()
	if behind >= within/2 && behind < within {
		f.steps.start()
	}
	return behind < within
}

func (f *follower) step(ctx context.Context) (err error) {
	began := time.Now()
	if f.at == nil && f.begin != nil {
		if f.at, err = f.begin(ctx); err != nil {
			return err
		}
	}
	end, err := f.topic.End(ctx)
	if err != nil {
		return err
	}
	if err := f.read(ctx, end); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.caughtUp = began
	return nil
}

func (f *follower) read(ctx context.Context, end map[int32]int64) error {
	var ranges []events.Range
	gap := f.at == nil
	for p, through := range end {
		after := f.at[p]
		gap = gap || through < after // the topic was made anew
		if after < through {
			ranges = append(ranges, events.Range{Partition: p, After: after, Through: through})
		}
	}
	if !gap && length(ranges) <= maxFollowed && len(ranges) > 0 {
		err := f.topic.Read(ctx, ranges, func(raw pubsub.RawRecord) error {
			if e, err := events.Decode(f.name, raw.Position, raw.Value); err == nil && !raw.Replay {
				f.see(&events.Record{Event: e, Position: raw.Position})
			}
			return nil
		})
		gap = errors.Is(err, pubsub.ErrTrimmed)
		if err != nil && !gap {
			return err
		}
	}
	if gap || length(ranges) > maxFollowed {
		f.lost()
	}
	f.at = maps.Clone(end)
	return nil
}

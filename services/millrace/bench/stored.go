package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/services/client"
)

const (
	// storedPoll is how often the bench asks whether the last messages can be read, and so how exact the time of storing is.
	storedPoll = 20 * time.Millisecond
	maxPage    = 200
)

// awaitStored waits until each pair's last messages can be read from its history, and returns when all could. It asks for one
// pair after the other, so that asking costs the server next to nothing.
func (r *benchRun) awaitStored(ctx context.Context) (time.Duration, error) {
	for _, p := range r.all {
		if err := p.awaitStored(ctx); err != nil {
			return 0, fmt.Errorf("waiting until all of user %d is stored: %w", p.from.user, err)
		}
		r.readable.Add(1)
	}
	return time.Since(r.start), nil
}

// The time is exact to one poll. The message that a conversation accepted last is among the window's last ones and is stored
// after all before it, which reading the whole history confirms later.
func (p *benchPair) awaitStored(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.sent:
	}
	acked := p.acked.Load()
	tail := min(int64(p.window), acked)
	for newest := int64(-1); ; {
		page, err := p.ask(ctx, client.History{Limit: int(min(2*tail+1, maxPage))})
		if err != nil {
			return err
		}
		found := int64(0)
		for _, m := range page.Messages {
			if s, _, ok, _ := p.wire.read(m.Content, m.Seq); ok && int64(s.index) >= acked-tail {
				found++
			}
		}
		if found >= tail {
			return nil
		}
		if n := len(page.Messages); n > 0 && page.Messages[n-1].Seq != newest {
			newest = page.Messages[n-1].Seq
			p.stored.Add(1)
		}
		if err := pause(ctx, storedPoll); err != nil {
			return err
		}
	}
}

// history reads all messages of the run back. nil stands for a history that could not be read.
func (r *benchRun) history(ctx context.Context) ([][]sighting, error) {
	stored := make([][]sighting, len(r.all))
	var reads errgroup.Group
	reads.SetLimit(maxDials)
	for i, p := range r.all {
		reads.Go(func() (err error) {
			stored[i], err = p.history(ctx)
			return err
		})
	}
	return stored, reads.Wait()
}

// history goes back from the newest message to the first that is not of this run, so that what earlier runs left does not
// count.
func (p *benchPair) history(ctx context.Context) ([]sighting, error) {
	select {
	case <-p.sent:
	default:
		return nil, nil // its sends were never answered, which is reported already
	}
	stored := []sighting{}
	for before := int64(0); ; {
		page, err := p.askWithin(ctx, client.History{BeforeSeq: before, Limit: maxPage})
		if err != nil {
			return nil, fmt.Errorf("user %d: %w", p.from.user, err)
		}
		ours := 0
		for i := len(page.Messages) - 1; i >= 0; i-- {
			m := page.Messages[i]
			s, _, ok, err := p.wire.read(m.Content, m.Seq)
			if err != nil {
				return nil, err
			}
			if ok {
				stored = append(stored, s)
				ours++
			}
			before = m.Seq
		}
		if ours == 0 || !page.More {
			break
		}
	}
	slices.Reverse(stored)
	return stored, nil
}

// askWithin gives up when the patience ends.
func (p *benchPair) askWithin(ctx context.Context, h client.History) (client.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	return p.ask(ctx, h)
}

package bench

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// comebacks is how many receivers come back at the same time at most.
const comebacks = 256

// goAway ends the receivers' connections.
func (r *benchRun) goAway() {
	for _, p := range r.all {
		p.to.leave()
	}
}

// comeBack connects the receivers again, each with the cursor that it had when it went away. What they get from then on is what
// they have missed.
func (r *benchRun) comeBack(ctx context.Context) error {
	back := time.Since(r.start)
	var dials errgroup.Group
	dials.SetLimit(comebacks)
	for _, p := range r.all {
		dials.Go(func() error {
			to, err := r.dial(ctx, p.to.user, p.to.cursor)
			if err != nil {
				return err
			}
			p.back = back
			p.again.Store(to)
			p.listen(to)
			return nil
		})
	}
	return dials.Wait()
}

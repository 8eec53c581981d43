package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/events"
	"millrace/services/client"
)

const (
	maxDials = 8 // connections opened at once
	// afterAll is how long the run waits for messages that should not come.
	afterAll = 300 * time.Millisecond
)

// benchRun is one mode's run over a number of pairs.
type benchRun struct {
	options  benchOptions
	id       string
	name     string
	first    int64 // the id of the first user
	pairs    int
	members  int // of the group that the only pair's sender sends to; 0: each pair's sender sends to its receiver
	window   int
	count    int           // messages of each pair
	duration time.Duration // 0: the run ends with the count
	untimed  int
	lockstep bool
	away     bool // the receivers are away while the senders send
	progress io.Writer

	all      []*benchPair
	start    time.Time
	stop     atomic.Bool
	readable atomic.Int64 // the number of pairs whose messages are all stored
}

// run connects, sends, waits until everything has arrived and can be read, and returns what it has measured and what was
// wrong. An error means that there was no run.
func (r *benchRun) run(ctx context.Context) (benchResult, error) {
	if err := r.connect(ctx); err != nil {
		return benchResult{}, err
	}
	var ended sync.Once
	end := func() {
		for _, p := range r.all {
			p.end()
		}
	}
	defer ended.Do(end)
	stop := context.AfterFunc(ctx, func() { ended.Do(end) })
	defer stop()

	if r.away {
		r.goAway()
	}
	r.start = time.Now()
	for _, p := range r.all {
		p.start = r.start
		p.run()
		if !r.away {
			p.listen(p.to)
		}
	}
	if r.duration > 0 {
		timer := time.AfterFunc(r.duration, func() { r.stop.Store(true) })
		defer timer.Stop()
	}
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(watching, cancel) })
	stored, storeErr := r.awaitStored(watching)
	var backErr error
	if r.away && storeErr == nil {
		backErr = r.comeBack(watching)
	}
	r.awaitDelivered(watching)
	cancel(nil)
	watch.Wait()
	// The history is read also after giving up, because it shows what is missing.
	history, historyErr := r.history(ctx)
	if ctx.Err() != nil {
		return benchResult{}, context.Cause(ctx)
	}
	ended.Do(end)
	result := r.result(stored, history)
	result.violate(storeErr, backErr, historyErr)
	return result, nil
}

func (r *benchRun) connect(ctx context.Context) error {
	r.all = make([]*benchPair, r.pairs)
	var dials errgroup.Group
	dials.SetLimit(maxDials)
	for i := range r.all {
		from := r.first + 2*int64(i)
		to := from + 1
		p := &benchPair{
			conversation: events.Direct(from, to), wire: newWire(r.id, i, client.ToUser(to), r.options.size),
			window: int32(r.window), count: int32(r.count), untimed: int32(r.untimed),
			stop: &r.stop, patience: r.options.patience,
		}
		if r.lockstep {
			p.lockstep = make(chan struct{}, 1)
		}
		r.all[i] = p
		for user, peer := range map[int64]**benchPeer{from: &p.from, to: &p.to} {
			dials.Go(func() (err error) {
				*peer, err = r.dial(ctx, user, nil)
				return err
			})
		}
	}
	err := dials.Wait()
	if err == nil && r.members > 0 {
		err = r.gather(ctx, r.all[0])
	}
	if err == nil {
		return nil
	}
	for _, p := range r.all {
		for _, peer := range p.peers() {
			if peer != nil {
				peer.cut()
			}
		}
	}
	return err
}

func (r *benchRun) dial(ctx context.Context, user int64, cursor client.Cursor) (*benchPeer, error) {
	return dialBenchPeer(ctx, r.options.url, r.options.secure, user, r.options.tokens().Of(user), cursor)
}

func (r *benchRun) sum(of func(*benchPair) *atomic.Int64) (n int64) {
	for _, p := range r.all {
		n += of(p).Load()
	}
	return n
}

func ackedOf(p *benchPair) *atomic.Int64     { return &p.acked }
func deliveredOf(p *benchPair) *atomic.Int64 { return &p.delivered }
func echoedOf(p *benchPair) *atomic.Int64    { return &p.echoed }
func storedOf(p *benchPair) *atomic.Int64    { return &p.stored }

var errStalled = errors.New("nothing has moved")

// watch prints each second how far the run is. It gives up when nothing has moved for as long as the patience lasts.
func (r *benchRun) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last, printed int64
	moved, told := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			acked, delivered := r.sum(ackedOf), r.sum(deliveredOf)
			if sum := acked + delivered + r.sum(echoedOf) + r.sum(storedOf); sum != last {
				last, moved = sum, now
			} else if now.Sub(moved) > r.options.patience && now.Sub(r.start) > r.duration+r.options.patience {
				giveUp(fmt.Errorf("%w for %v", errStalled, r.options.patience))
				return
			}
			if since := now.Sub(told); since >= time.Second {
				_, _ = fmt.Fprintf(r.progress, "%s %3.0f s  accepted %d  delivered %d (%.0f/s)  all stored of %d/%d pairs\n",
					r.name, now.Sub(r.start).Seconds(), acked, delivered, float64(delivered-printed)/since.Seconds(),
					r.readable.Load(), r.pairs)
				printed, told = delivered, now
			}
		}
	}
}

// receivers is how many users each message is delivered to, its sender aside.
func (r *benchRun) receivers() int64 { return int64(max(r.members, 2) - 1) }

// awaitDelivered waits until all who are to get them got all messages, and a little longer for messages that should not come.
func (r *benchRun) awaitDelivered(ctx context.Context) {
	for ctx.Err() == nil {
		acked := r.sum(ackedOf)
		if r.sum(deliveredOf) >= acked*r.receivers() && r.sum(echoedOf) >= acked {
			break
		}
		_ = pause(ctx, storedPoll)
	}
	_ = pause(ctx, afterAll)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

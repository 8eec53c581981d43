package notify

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/events"
)

const (
	// pollEvery is how often the store is asked what is due.
	pollEvery = time.Second
	takeLimit = 128
	// maxTellers bounds how many notifications are told at a time, maxPerServer how many of them may be at one push service or
	// endpoint. So a server that answers slowly leaves others enough, until its gate shuts it out.
	maxTellers   = 256
	maxPerServer = 192
	roomTimeout  = 250 * time.Millisecond
	// takenFor is how long a notification belongs to who has taken it. If that process dies, it is told so much later.
	takenFor = time.Minute
	// tellTimeout bounds the telling of one notification, with all that the store is asked. One that has less time left is left
	// to whoever takes it next.
	tellTimeout = 20 * time.Second
	// A target that fails is tried again after firstPause, and then after twice as long each time, up to longestPause.
	firstPause   = 15 * time.Second
	longestPause = 10 * time.Minute
	maxAttempts  = 10
	// heldPause is how long a notification waits for a server that is busy or left alone.
	heldPause = 5 * time.Second
	dropEvery = 10 * time.Minute
)

// tellAll tells what is due until the handler stops.
func (n *Notify) tellAll() {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	failing := false
	for {
		var more bool
		var err error
		if panicked := n.Contain(func() { more, err = n.tellDue() }); panicked != nil {
			err = panicked
		}
		if err != nil && !failing {
			n.log.Warn("notifications wait, trying again", "error", err)
		}
		if failing = err != nil; more {
			select {
			case <-n.stop:
				return
			default:
				continue
			}
		}
		select {
		case <-n.stop:
			return
		case <-ticker.C:
		}
	}
}

// tellDue takes some of what is due and begins to tell it. It reports whether there may be more.
func (n *Notify) tellDue() (more bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	now := n.now()
	if now.Sub(n.dropped) >= dropEvery {
		if err := n.store.DropNotifications(ctx, now.Add(-n.MaxAge)); err != nil {
			return false, err
		}
		n.dropped = now
	}
	taken, err := n.store.TakeNotifications(ctx, now, now.Add(takenFor), takeLimit)
	if err != nil || len(taken) == 0 {
		return false, err
	}
	users := make([]int64, len(taken))
	for i := range taken {
		users[i] = taken[i].User
	}
	seen, err := n.store.LastSeen(ctx, users)
	if err != nil {
		return false, err
	}
	subscriptions, err := n.store.Subscriptions(ctx, users)
	if err != nil {
		return false, err
	}
	for i := range taken {
		x := &taken[i]
		n.tellers <- struct{}{}
		n.telling.Go(func() {
			defer func() { <-n.tellers }()
			_ = n.Contain(func() { n.tellInTime(x, seen[x.User], subscriptions[x.User]) }) // it is told after a panic when others may take it
		})
	}
	return len(taken) == takeLimit, nil
}

// tellInTime tells the notification unless somebody else may take it before that is done.
func (n *Notify) tellInTime(x *Notification, seen events.Record, subscriptions []Subscription) {
	if x.Due.Sub(n.now()) < tellTimeout {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	if err := n.tell(ctx, x, seen, subscriptions); err != nil {
		n.log.Warn("a notification waits, trying again", "user", x.User, "conversation", x.Conversation, "error", err)
	}
}

// tell sends the notification to its targets, if the user still has to be told, and settles it. After an error it is told again,
// to all of them, by whoever takes it next.
func (n *Notify) tell(ctx context.Context, x *Notification, seen events.Record, subscriptions []Subscription) error {
	reason, m, err := n.verdict(ctx, x, seen)
	if err != nil {
		return err
	}
	preview := &m
	if !n.Preview {
		preview = nil
	}
	targets := n.targets(x, payloadOf(x, preview), subscriptions)
	if reason == "" && len(targets) == 0 {
		reason = reasonNoTarget
	}
	if reason != "" {
		n.metrics.untold.WithLabelValues(reason).Inc()
		return n.settle(ctx, x, x.Count, n.now().Add(n.Window), nil)
	}
	repeats := make([]*Notification, len(targets))
	var sending errgroup.Group
	for i, t := range targets {
		sending.Go(func() error {
			return n.Contain(func() { repeats[i] = n.tellAt(ctx, x, t) })
		})
	}
	if err := sending.Wait(); err != nil {
		return err
	}
	if x.Target != "" {
		if again := repeats[0]; again != nil {
			x.Attempts = again.Attempts
			return n.settle(ctx, x, 0, again.Due, nil)
		}
		return n.settle(ctx, x, x.Count, n.now(), nil)
	}
	var again []Notification
	for _, r := range repeats {
		if r != nil {
			again = append(again, *r)
		}
	}
	return n.settle(ctx, x, x.Count, n.now().Add(n.Window), again)
}

func (n *Notify) settle(ctx context.Context, x *Notification, told int, next time.Time, repeats []Notification) error {
	return n.store.SettleNotification(ctx, *x, told, next, repeats)
}

// tellAt sends the notification to the target and returns what is to be repeated there, if anything.
func (n *Notify) tellAt(ctx context.Context, x *Notification, t target) *Notification {
	after, err := t.send(ctx)
	outcome := result(err)
	again := *x
	again.Target = t.name
	switch {
	case held(err):
		again.Due = n.now().Add(heldPause + rand.N(heldPause))
		return &again
	case outcome == "failed" && x.Attempts+1 >= maxAttempts:
		outcome = "abandoned"
	case outcome == "failed":
		pause := min(firstPause<<x.Attempts, longestPause)
		again.Due = n.now().Add(max(pause+rand.N(pause/4), after))
	}
	n.metrics.sent.WithLabelValues(t.channel, outcome).Inc()
	log := n.log.With("user", x.User, "target", t.name)
	switch outcome {
	case "failed":
		log.Info("a notification has failed, it is tried again", "error", err)
		again.Attempts++
		return &again
	case "refused", "abandoned":
		log.Warn("a notification was not taken", "result", outcome, "error", err)
	case "gone":
		log.Info("a browser has gone", "error", err)
	}
	return nil
}

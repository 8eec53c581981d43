package notify

import (
	"context"
	"errors"
	"time"

	"millrace/events"
	"millrace/handlers/webhook"
)

// slotTimeout is how long a notification waits until its endpoint may get one more request.
const slotTimeout = time.Second

// endpoint is an endpoint that gets notifications.
type endpoint struct {
	*webhook.Sender
	line line
}

// target is where a notification is sent: a browser, or an endpoint of the operator.
type target struct {
	name    string // as the store keeps it, without secrets
	channel string
	send    func(ctx context.Context) (retryAfter time.Duration, err error)
}

// targets returns where to send the notification: everywhere, or to the target that it is to be repeated at, if there still is
// one of that name.
func (n *Notify) targets(x *Notification, p payload, subscriptions []Subscription) []target {
	var all []target
	add := func(t target) {
		if x.Target == "" || x.Target == t.name {
			all = append(all, t)
		}
	}
	for _, s := range subscriptions {
		if n.browsers == nil {
			break
		}
		add(target{browserName(s), channelWebPush, func(ctx context.Context) (time.Duration, error) {
			encoded, err := p.forBrowser("message")
			if err != nil {
				return 0, events.Permanent(err)
			}
			left := time.Unix(x.At, 0).Add(n.MaxAge).Sub(n.now())
			return n.sendToBrowser(ctx, x.User, s, push{encoded, x.topic(), max(left, time.Minute)})
		}})
	}
	for _, s := range n.endpoints {
		add(target{"webhook " + s.Name, channelWebhook, func(ctx context.Context) (time.Duration, error) {
			if !s.line.enter() {
				return 0, errBusy
			}
			defer s.line.leave()
			ctx, cancel := context.WithTimeout(ctx, s.Timeout+slotTimeout)
			defer cancel()
			encoded, err := p.forWebhook(x.User)
			if err != nil {
				return 0, events.Permanent(err)
			}
			return 0, s.Send(ctx, x.id(), encoded)
		}})
	}
	return all
}

// sendToBrowser drops the subscription if the browser has gone.
func (n *Notify) sendToBrowser(ctx context.Context, user int64, s Subscription, p push) (retryAfter time.Duration, err error) {
	retryAfter, err = n.browsers.send(ctx, s, p)
	if errors.Is(err, errGone) {
		_, dropErr := n.store.DropSubscription(ctx, user, s.Endpoint)
		err = errors.Join(err, dropErr)
	}
	return retryAfter, err
}

func browserName(s Subscription) string { return "browser " + hashOf(s.Endpoint) }

// result is how the sending has ended, as the metrics name it.
func result(err error) string {
	switch {
	case err == nil:
		return "sent"
	case errors.Is(err, errGone):
		return "gone"
	case events.IsPermanent(err):
		return "refused"
	}
	return "failed"
}

// held reports whether nothing was sent because the server is busy or left alone, so that no attempt is lost.
func held(err error) bool { return errors.Is(err, errBusy) || errors.Is(err, webhook.ErrHeld) }

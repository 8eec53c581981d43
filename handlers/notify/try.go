package notify

import (
	"context"
	"errors"
	"net/url"
	"time"
)

// Tried is the outcome of a test at one target.
type Tried struct {
	Target string // without secrets
	Took   time.Duration
	Err    error // nil: it was taken
}

// Try sends a test to every target of the user one by one and returns the outcomes. A browser that has unsubscribed is dropped.
func (n *Notify) Try(ctx context.Context, user int64) ([]Tried, error) {
	subscriptions, err := n.store.Subscriptions(ctx, []int64{user})
	if err != nil {
		return nil, err
	}
	p := payload{Timestamp: n.now().Unix()}
	browser, err := p.forBrowser("test")
	if err != nil {
		return nil, err
	}
	p.Type = "test"
	endpoint, err := p.forWebhook(user)
	if err != nil {
		return nil, err
	}
	var tried []Tried
	try := func(name string, send func() error) {
		begin := time.Now()
		err := send()
		tried = append(tried, Tried{Target: name, Took: time.Since(begin), Err: err})
	}
	for _, s := range subscriptions[user] {
		try(browserName(s)+" at "+hostOf(s.Endpoint), func() error {
			if n.browsers == nil {
				return errors.New("there is no key for Web Push")
			}
			_, err := n.sendToBrowser(ctx, user, s, push{payload: browser, ttl: time.Minute})
			return err
		})
	}
	for _, s := range n.endpoints {
		id := "notification_test_" + hashOf(n.now().String())
		try("webhook "+s.Name, func() error { return s.Send(ctx, id, endpoint) })
	}
	return tried, nil
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "no URL"
	}
	return u.Host
}

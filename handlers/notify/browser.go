package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"
	lru "github.com/hashicorp/golang-lru/v2"

	"millrace/events"
	"millrace/handlers/webhook"
)

const (
	// requestTimeout bounds a request to a push service. A gate that is closed may open within gateTimeout more.
	requestTimeout = 5 * time.Second
	gateTimeout    = 100 * time.Millisecond
	// maxServices is of how many push services it is remembered how they fare. Browsers have a handful; users can name others.
	maxServices = 256
)

// errGone is returned if the browser has unsubscribed, or its push service does not know it.
var errGone = errors.New("the browser is not subscribed any more")

// errBusy is returned if as many notifications are being told at a server as may be.
var errBusy = errors.New("the server is busy")

// browsers sends to browsers by their push services. Each service has a gate of its own, and no service may occupy all who tell.
type browsers struct {
	config  *Config
	trust   *tls.Config
	timeout time.Duration // of a request
	room    int           // of the line of a service
	log     *slog.Logger

	mu       sync.Mutex
	services *lru.Cache[string, *service]
}

type service struct {
	*webhook.Remote
	line line
}

// line bounds how many notifications are told at one server at a time. It holds an element for each.
type line chan struct{}

// enter waits a moment for room for one more, which must leave then, and reports whether there was. It does not wait long, because
// meanwhile nobody else is told by the same teller.
func (l line) enter() bool {
	select {
	case l <- struct{}{}:
		return true
	case <-time.After(roomTimeout):
		return false
	}
}

func (l line) leave() { <-l }

func newBrowsers(c *Config, trust *tls.Config, log *slog.Logger) *browsers {
	// It fails only for a size below 1.
	services, _ := lru.NewWithEvict(maxServices, func(_ string, s *service) { s.Close() })
	return &browsers{config: c, trust: trust, timeout: requestTimeout, room: maxPerServer, log: log, services: services}
}

func (b *browsers) close() { b.services.Purge() }

// service returns the push service at the host.
func (b *browsers) service(host string) *service {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, known := b.services.Get(host)
	if !known {
		e := webhook.Endpoint{
			Name: host, URL: "https://" + host, Timeout: b.timeout, Parallel: maxPerServer, AllowPrivate: b.config.AllowPrivate,
		}
		s = &service{webhook.NewRemote(&e, b.trust, b.log.With("push_service", host)), make(line, b.room)}
		b.services.Add(host, s)
	}
	return s
}

// push is a message for one browser.
type push struct {
	payload []byte
	topic   string        // empty: it replaces none
	ttl     time.Duration // how long the push service keeps it for a browser that is away
}

// send sends to the browser. It returns errGone if the browser has unsubscribed, a permanent error if the service will never
// take the push, and the time after which the service wants to be asked again, if it has said so. No error contains the endpoint.
func (b *browsers) send(ctx context.Context, s Subscription, p push) (time.Duration, error) {
	endpoint, err := url.Parse(s.Endpoint)
	if err != nil {
		return 0, events.Permanent(errors.New("the endpoint is no URL"))
	}
	service := b.service(endpoint.Host)
	if !service.line.enter() {
		return 0, errBusy
	}
	defer service.line.leave()
	ctx, cancel := context.WithTimeout(ctx, b.timeout+gateTimeout)
	defer cancel()
	var unfit error
	answer, err := service.Do(ctx, func(ctx context.Context, client *http.Client) (*http.Response, error) {
		sent := &recorder{client: client}
		response, err := webpush.SendNotificationWithContext(ctx, p.payload, &webpush.Subscription{
			Endpoint: s.Endpoint, Keys: webpush.Keys{P256dh: s.P256dh, Auth: s.Auth},
		}, &webpush.Options{
			HTTPClient: sent, Subscriber: strings.TrimPrefix(b.config.Subject, "mailto:"), Topic: p.topic, TTL: int(p.ttl.Seconds()),
			Urgency: webpush.UrgencyNormal, VAPIDPublicKey: b.config.Keys.Public, VAPIDPrivateKey: b.config.Keys.Private,
		})
		if err != nil && !sent.asked {
			unfit = err // it could not be encrypted or signed, for which the service is not to blame
		}
		return response, err
	})
	switch {
	case unfit != nil:
		return 0, events.Permanent(fmt.Errorf("encrypt: %w", unfit))
	case errors.Is(err, webhook.ErrPrivate):
		return 0, events.Permanent(err)
	case err != nil:
		return answer.RetryAfter, err
	case answer.Status == http.StatusNotFound, answer.Status == http.StatusGone:
		return 0, errGone
	case answer.OK():
		return 0, nil
	}
	return 0, events.Permanent(answer.Err())
}

// recorder notes whether a request was made.
type recorder struct {
	client *http.Client
	asked  bool
}

// Do implements webpush.HTTPClient.
func (r *recorder) Do(request *http.Request) (*http.Response, error) {
	r.asked = true
	return r.client.Do(request)
}

package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"

	"millrace/infra/auth"
)

const (
	// wrongKeyDelay is how long a request with a wrong key waits for its refusal, and maxWaiting how many wait at once. More
	// are refused at once as too many.
	wrongKeyDelay = time.Second
	maxWaiting    = 100
	// sayAgain is the pause between log lines about wrong keys.
	sayAgain = time.Minute
)

type callerKey struct{}

// caller returns the key of the request.
func caller(ctx context.Context) (auth.APIKey, bool) {
	key, ok := ctx.Value(callerKey{}).(auth.APIKey)
	return key, ok
}

// gate passes on the requests that carry a known key, as many as the key may make in a second.
type gate struct {
	next http.Handler
	keys auth.APIKeys
	// open is the key of requests that carry none, or nil if they are refused.
	open   *auth.APIKey
	limits map[string]*rate.Limiter // by the name of the key
	// waiting has an element for each request with a wrong key that is about to be refused.
	waiting chan struct{}
	log     *slog.Logger
	say     rate.Sometimes
}

func newGate(next http.Handler, keys auth.APIKeys, open *auth.APIKey, perSecond int, log *slog.Logger) *gate {
	g := &gate{
		next: next, keys: keys, open: open, limits: map[string]*rate.Limiter{}, waiting: make(chan struct{}, maxWaiting), log: log,
		say: rate.Sometimes{Interval: sayAgain},
	}
	if open != nil {
		keys = append(slices.Clone(keys), *open)
	}
	for _, k := range keys {
		g.limits[k.Name] = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	return g
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, ok := g.find(r)
	if !ok {
		g.refuse(w, r)
		return
	}
	if !g.limits[key.Name].Allow() {
		refuse(w, r, codes.ResourceExhausted, "too many requests with the key "+key.Name)
		return
	}
	g.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, key)))
}

func (g *gate) find(r *http.Request) (auth.APIKey, bool) {
	header := r.Header.Get("Authorization")
	if header == "" && g.open != nil {
		return *g.open, true
	}
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return auth.APIKey{}, false
	}
	return g.keys.Find(secret)
}

// refuse slows down whoever tries keys.
func (g *gate) refuse(w http.ResponseWriter, r *http.Request) {
	g.say.Do(func() { g.log.Warn("a request to the API has no key, or a wrong one", "remote", r.RemoteAddr) })
	select {
	case g.waiting <- struct{}{}:
		defer func() { <-g.waiting }()
	default:
		refuse(w, r, codes.ResourceExhausted, "too many requests with a wrong key")
		return
	}
	select {
	case <-time.After(wrongKeyDelay):
	case <-r.Context().Done():
	}
	refuse(w, r, codes.Unauthenticated, "no key, or a wrong one")
}

package auth

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	lru "github.com/hashicorp/golang-lru/v2"
)

// ErrUnavailable is wrapped by the error for a token that cannot be checked now, because the key set is out of reach. The
// error's text says why.
var ErrUnavailable = errors.New("the key set is unavailable")

const (
	// keysEvery is how long known keys are used before the set is fetched again.
	keysEvery = 15 * time.Minute
	// fetchPause is the least time between two fetches, whoever asks for them. So a rotated key is known at the latest this
	// long after the first token that it has signed.
	fetchPause   = 2 * time.Second
	fetchTimeout = 5 * time.Second
	maxKeySet    = 1 << 20
	// If a fetch has not found a key, nobody waits for that key again for unknownFor. The set remembers the last maxUnknown
	// such names.
	unknownFor = 10 * time.Second
	maxUnknown = 1000
)

// keySet holds the public keys at a URL. A caller that needs an unknown key waits for a fetch that begins after its call, at
// most until its own context ends. All callers that wait share a fetch, which goes on when they have gone.
type keySet struct {
	url     *url.URL
	client  *http.Client
	log     *slog.Logger
	life    context.Context               // the context of the fetches
	unknown *lru.Cache[string, time.Time] // names that a fetch has not found, with the time of that fetch

	fetching chan struct{} // holds an element while a fetch is under way

	mu      sync.Mutex
	keys    map[string]publicKey // nil until a fetch has succeeded
	planned *fetch               // the fetch that has not begun yet; nil if nobody asks for one
	began   time.Time            // when the last fetch began
	failed  error                // why the last fetch failed; nil if it succeeded
}

type publicKey struct {
	algorithm string // the algorithm that the key is for; empty: any that fits its type
	key       crypto.PublicKey
}

// fetch is one request for the set. Its error may be read after done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

// newKeySet starts to fetch the set, now and every keysEvery until the context ends.
func newKeySet(ctx context.Context, address string, transport http.RoundTripper, log *slog.Logger) (*keySet, error) {
	at, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("key set: not a URL") // not quoted, because it may hold a password
	}
	unknown, err := lru.New[string, time.Time](maxUnknown)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	s := &keySet{
		url: at, log: log, life: ctx, unknown: unknown, fetching: make(chan struct{}, 1),
		client: &http.Client{Timeout: fetchTimeout, Transport: transport},
	}
	go s.refresh()
	return s, nil
}

func (s *keySet) refresh() {
	for {
		pause := keysEvery
		if s.wait(s.life, s.plan()) != nil {
			pause = fetchPause
		}
		select {
		case <-time.After(pause):
		case <-s.life.Done():
			return
		}
	}
}

// ready returns why no token can be checked, as long as no fetch has succeeded.
func (s *keySet) ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.keys != nil:
		return nil
	case s.failed != nil:
		return s.failed
	}
	return fmt.Errorf("%w: not fetched yet", ErrUnavailable)
}

// find returns the key with the name, or an error that wraps [ErrUnauthenticated] or [ErrUnavailable].
func (s *keySet) find(ctx context.Context, name, algorithm string) (crypto.PublicKey, error) {
	key, ok := s.known(name)
	if !ok && !s.missing(name) {
		if err := s.wait(ctx, s.plan()); err != nil {
			return nil, err
		}
		if key, ok = s.known(name); !ok {
			s.unknown.Add(name, time.Now())
		}
	}
	if !ok || key.algorithm != "" && key.algorithm != algorithm {
		return nil, fmt.Errorf("%w: signed with an unknown key", ErrUnauthenticated)
	}
	return key.key, nil
}

func (s *keySet) known(name string) (publicKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.keys[name]
	return key, ok
}

// missing reports whether a fetch has lately not found the name.
func (s *keySet) missing(name string) bool {
	at, ok := s.unknown.Get(name)
	return ok && time.Since(at) < unknownFor
}

func (s *keySet) wait(ctx context.Context, f *fetch) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// plan returns a fetch that has not begun yet.
func (s *keySet) plan() *fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.planned == nil {
		s.planned = &fetch{done: make(chan struct{})}
		go s.run(s.planned, time.Until(s.began.Add(fetchPause)))
	}
	return s.planned
}

// run does the fetch after the one before it is over and the pause has passed.
func (s *keySet) run(f *fetch, pause time.Duration) {
	defer close(f.done)
	s.fetching <- struct{}{}
	defer func() { <-s.fetching }()
	select {
	case <-time.After(pause):
	case <-s.life.Done():
	}
	s.mu.Lock()
	s.planned, s.began = nil, time.Now()
	s.mu.Unlock()
	keys, err := s.get()
	if err != nil {
		f.err = fmt.Errorf("%w: %s: %w", ErrUnavailable, s.url.Host, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.err == nil {
		s.keys = keys
	} else if s.failed == nil && s.life.Err() == nil {
		s.log.Warn("cannot fetch the key set", "host", s.url.Host, "error", err)
	}
	s.failed = f.err
}

func (s *keySet) get() (map[string]publicKey, error) {
	request, err := http.NewRequestWithContext(s.life, http.MethodGet, s.url.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("no request can be made of the URL")
	}
	response, err := s.client.Do(request)
	if err != nil {
		if outer := new(url.Error); errors.As(err, &outer) {
			err = outer.Err // without the URL, which may contain a secret
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // nobody needs the rest of it
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, response.Body, maxKeySet))
	if err != nil {
		return nil, err
	}
	return s.parse(body)
}

// parse returns the keys that it can read. It skips others, because a set may hold kinds that other programs use.
func (s *keySet) parse(body []byte) (map[string]publicKey, error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("not a key set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("not a key set: it has no keys")
	}
	keys := make(map[string]publicKey, len(set.Keys))
	for _, raw := range set.Keys {
		key, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			s.log.Debug("a key of the set cannot be read", "host", s.url.Host, "error", err)
			continue
		}
		if m := key.Marshal(); m.USE != jwkset.UseEnc {
			keys[m.KID] = publicKey{algorithm: m.ALG.String(), key: key.Key()}
		}
	}
	return keys, nil
}

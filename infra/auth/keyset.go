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

// ErrUnavailable is what an error wraps of a token that nobody can judge now, since the key set is out of reach. The text
// beside it says why.
var ErrUnavailable = errors.New("the key set is unavailable")

const (
	// keysEvery is how long keys that are known are used before the set is fetched again.
	keysEvery = 15 * time.Minute
	// fetchPause is the least time between two fetches, whoever asks for them: a key that was rotated is known so long after
	// its first token at the latest.
	fetchPause   = 2 * time.Second
	fetchTimeout = 5 * time.Second
	maxKeySet    = 1 << 20
	// For unknownFor nobody waits again for a key that a fetch has not found. Of such names the last maxUnknown are known.
	unknownFor = 10 * time.Second
	maxUnknown = 1000
)

// keySet is the public keys at a URL. Whoever needs a key that is not known waits for a fetch that began after that, no
// longer than its own context lasts; a fetch is shared by all who wait, and goes on when they do not.
type keySet struct {
	url     *url.URL
	client  *http.Client
	log     *slog.Logger
	life    context.Context               // of the fetches
	unknown *lru.Cache[string, time.Time] // names that the latest fetch of their time has not found

	fetching chan struct{} // has an element while a fetch is under way

	mu      sync.Mutex
	keys    map[string]publicKey // nil: never fetched
	planned *fetch               // the one that has not begun; nil: none is asked for
	began   time.Time            // when the last one did
	failed  error                // why the last one failed; nil if it did not
}

type publicKey struct {
	algorithm string // that it is for; empty: any of its type
	key       crypto.PublicKey
}

// fetch is one request for the set. Its error may be read once done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

// newKeySet fetches the set now, and again from time to time until the context ends.
func newKeySet(ctx context.Context, address string, transport http.RoundTripper, log *slog.Logger) (*keySet, error) {
	at, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("key set: not a URL") // it may hold a password
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

// ready returns why no token can be judged, as long as the set has never been fetched.
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

// find returns the key of the name, or an error that wraps [ErrUnauthenticated] or [ErrUnavailable].
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

// missing reports whether a fetch has just not found the name.
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

// plan returns a fetch that has yet to begin.
func (s *keySet) plan() *fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.planned == nil {
		s.planned = &fetch{done: make(chan struct{})}
		go s.run(s.planned, time.Until(s.began.Add(fetchPause)))
	}
	return s.planned
}

// run does the fetch once the one before it is over, and its pause.
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
			err = outer.Err // without the URL, in which there may be a secret
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // what is left of it interests nobody
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, response.Body, maxKeySet))
	if err != nil {
		return nil, err
	}
	return s.parse(body)
}

// parse leaves out keys that it cannot read: a set may hold kinds that others use.
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

package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// issuer signs tokens and serves its keys. It refuses to serve while fail is set.
type issuer struct {
	t *testing.T

	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	fail    func(context.Context) error
	fetches int
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.fetches++
	fail, keys := i.fail, maps.Clone(i.keys)
	i.mu.Unlock()
	if fail != nil {
		return nil, fail(r.Context())
	}
	set := []any{map[string]string{"kty": "of a kind that nobody knows"}}
	for name, key := range keys {
		jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: name}})
		require.NoError(i.t, err)
		set = append(set, jwk.Marshal())
	}
	body, err := json.Marshal(map[string]any{"keys": set})
	require.NoError(i.t, err)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

func (i *issuer) set(fail func(context.Context) error, keys ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail, i.keys = fail, map[string]*ecdsa.PrivateKey{}
	for _, name := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(i.t, err)
		i.keys[name] = key
	}
}

func (i *issuer) token(name string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := i.keys[name]
	if key == nil {
		var err error
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(i.t, err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "7", "exp": time.Now().Add(time.Hour).Unix()})
	token.Header["kid"] = name
	signed, err := token.SignedString(key)
	require.NoError(i.t, err)
	return signed
}

// refused is how an issuer that is out of reach fails.
func refused(context.Context) error { return errors.New("connection refused") }

// underTest runs the test with a verifier of the tokens of an issuer that fails so from the first fetch on, in a synctest
// bubble.
func underTest(t *testing.T, fail func(context.Context) error, test func(t *testing.T, i *issuer, v *Verifier)) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{t: t}
		i.set(fail, "k1")
		ctx, cancel := context.WithCancel(t.Context())
		keys, err := newKeySet(ctx, "https://user:sesame@issuer/keys", i, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		test(t, i, &Verifier{
			algorithms: []string{"ES256"}, ready: keys.ready,
			key: func(ctx context.Context, h header) (any, error) { return keys.find(ctx, h.KeyID, h.Algorithm) },
		})
		cancel()
		synctest.Wait()
	})
}

func TestAKeySetOutOfReachIsNoBadSignature(t *testing.T) {
	underTest(t, refused, func(t *testing.T, i *issuer, v *Verifier) {
		_, err := v.Verify(t.Context(), i.token("k1"))
		require.ErrorIs(t, err, ErrUnavailable)
		require.NotErrorIs(t, err, ErrUnauthenticated)
		require.ErrorContains(t, err, "issuer: connection refused")
		require.NotContains(t, err.Error(), "sesame")
		require.ErrorIs(t, v.Ready(t.Context()), ErrUnavailable)

		i.set(nil, "k1")
		_, err = v.Verify(t.Context(), i.token("k1"))
		require.NoError(t, err)
		require.NoError(t, v.Ready(t.Context()))

		i.set(refused, "k2")
		_, err = v.Verify(t.Context(), i.token("k2"))
		require.ErrorIs(t, err, ErrUnavailable, "nobody knows whether there is such a key by now")
	})
}

func TestVerifyWaitsForAKeySetNoLongerThanItsCallerDoes(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	underTest(t, hang, func(t *testing.T, i *issuer, v *Verifier) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		token, begin := i.token("k1"), time.Now()
		_, err := v.Verify(ctx, token)
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 200*time.Millisecond, time.Since(begin))
	})
}

func TestARotatedKeyIsAcceptedWithinSecondsWhateverStrangersAskFor(t *testing.T) {
	underTest(t, nil, func(t *testing.T, i *issuer, v *Verifier) {
		begin := time.Now()
		var strangers sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		strangers.Go(func() {
			for ctx.Err() == nil {
				strangers.Go(func() { _, _ = v.Verify(ctx, i.token(rand.Text())) })
				time.Sleep(100 * time.Millisecond)
			}
		})
		time.Sleep(time.Minute)
		for _, name := range []string{"k2", "k3"} {
			i.set(nil, name)
			rotated := time.Now()
			_, err := v.Verify(ctx, i.token(name))
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(rotated), 2*fetchPause)
		}
		_, err := v.Verify(ctx, i.token("k1"))
		require.ErrorIs(t, err, ErrUnauthenticated, "a key that was withdrawn")
		stop()
		strangers.Wait()
		i.mu.Lock()
		defer i.mu.Unlock()
		require.LessOrEqual(t, i.fetches, int(time.Since(begin)/fetchPause)+2)
	})
}

func TestNobodyWaitsAgainForAKeyThatThereIsNot(t *testing.T) {
	underTest(t, nil, func(t *testing.T, i *issuer, v *Verifier) {
		_, err := v.Verify(t.Context(), i.token("none"))
		require.ErrorIs(t, err, ErrUnauthenticated)
		begin := time.Now()
		_, err = v.Verify(t.Context(), i.token("none"))
		require.ErrorIs(t, err, ErrUnauthenticated)
		require.Zero(t, time.Since(begin))
		time.Sleep(unknownFor)
		i.set(nil, "none")
		_, err = v.Verify(t.Context(), i.token("none"))
		require.NoError(t, err)
	})
}

// Package auth finds out who is calling. Users show a JWT at the gateway; nodes show each other a shared service token.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ErrUnauthenticated is wrapped by the error for every token that is refused. The error's text never contains the token.
var ErrUnauthenticated = errors.New("unauthenticated")

// leeway is how much the clocks of the issuer and the gateway may differ.
const leeway = 5 * time.Second

// Identity is what a valid token says about the user.
type Identity struct {
	User     int64
	UserType string
	Region   string
	// Issued is when the token was issued; the zero time if it does not say.
	Issued  time.Time
	Expires time.Time
}

// Ends returns when a session with the token ends: 5 s after the token expires, which is as long as a verifier accepts it. It
// returns the zero time if the token does not expire.
func (i Identity) Ends() time.Time {
	if i.Expires.IsZero() {
		return time.Time{}
	}
	return i.Expires.Add(leeway)
}

type claims struct {
	UserType string `json:"user_type,omitempty"`
	Region   string `json:"region,omitempty"`
	jwt.RegisteredClaims
}

// Verifier checks tokens against one key source. It is safe for concurrent use.
type Verifier struct {
	algorithms []string
	// key returns the key that a token with the header must be signed with.
	key   func(ctx context.Context, h header) (any, error)
	ready func(context.Context) error
}

// NewSecretVerifier returns a verifier that accepts HS256 tokens signed with the secret.
func NewSecretVerifier(secret string) *Verifier {
	return &Verifier{
		algorithms: []string{"HS256"},
		key:        func(context.Context, header) (any, error) { return []byte(secret), nil },
		ready:      func(context.Context) error { return nil },
	}
}

// NewJWKSVerifier returns a verifier that accepts RS256 and ES256 tokens signed with a key of the set at the URL. The URL
// need not be in reach yet. The verifier fetches the set in the background until the context ends. It also fetches it when a
// token names an unknown key, but not more often than every two seconds.
func NewJWKSVerifier(ctx context.Context, url string, log *slog.Logger) (*Verifier, error) {
	keys, err := newKeySet(ctx, url, &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}, log)
	if err != nil {
		return nil, err
	}
	return &Verifier{
		algorithms: []string{"RS256", "ES256"},
		key:        func(ctx context.Context, h header) (any, error) { return keys.find(ctx, h.KeyID, h.Algorithm) },
		ready:      keys.ready,
	}, nil
}

// Ready returns why no token can be checked now, or nil.
func (v *Verifier) Ready(ctx context.Context) error { return v.ready(ctx) }

// Verify returns whose token it is. The error wraps [ErrUnauthenticated] if the token is not valid, and [ErrUnavailable] if
// that cannot be found out now, or not before the context ends.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	t, err := parse(token)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: not a token", ErrUnauthenticated)
	}
	if t.header.Critical != nil {
		return Identity{}, fmt.Errorf("%w: the token wants what is not known here", ErrUnauthenticated)
	}
	method := jwt.GetSigningMethod(t.header.Algorithm)
	if method == nil || !slices.Contains(v.algorithms, t.header.Algorithm) {
		return Identity{}, fmt.Errorf("%w: the signature is not valid", ErrUnauthenticated)
	}
	key, err := v.key(ctx, t.header)
	if err != nil {
		return Identity{}, err
	}
	if method.Verify(t.signed, t.signature, key) != nil {
		return Identity{}, fmt.Errorf("%w: the signature is not valid", ErrUnauthenticated)
	}
	return t.identity(time.Now())
}

// Sign returns an HS256 token that [NewSecretVerifier] with the same secret accepts until the identity expires. It is issued now
// unless the identity says when.
func Sign(secret string, id Identity) (string, error) {
	if id.Issued.IsZero() {
		id.Issued = time.Now()
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		UserType: id.UserType,
		Region:   id.Region,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   strconv.FormatInt(id.User, 10),
			IssuedAt:  jwt.NewNumericDate(id.Issued),
			ExpiresAt: jwt.NewNumericDate(id.Expires),
		},
	}).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

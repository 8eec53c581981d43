// Package auth tells who is calling: users by their JWT at the gateway, services by a shared token between nodes.
package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"millrace/events"
)

// ErrUnauthenticated is what every refused token's error wraps. The text beside it never holds the token.
var ErrUnauthenticated = errors.New("unauthenticated")

// leeway is how far the clocks of issuer and gateway may differ.
const leeway = 5 * time.Second

// Identity is what a valid token says.
type Identity struct {
	User     int64
	UserType string
	Region   string
	Expires  time.Time
}

// Ends is when a session of the token ends: 5 s after the token expires, for as long its verifier accepts it. It is zero if
// the token does not expire.
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
	parser *jwt.Parser
	key    jwt.Keyfunc
}

// NewSecretVerifier accepts HS256 tokens signed with the secret.
func NewSecretVerifier(secret string) *Verifier {
	return newVerifier(func(*jwt.Token) (any, error) { return []byte(secret), nil }, "HS256")
}

// NewJWKSVerifier accepts RS256 and ES256 tokens signed with a key of the set at the URL. The set is fetched again
// in the background until the context ends.
func NewJWKSVerifier(ctx context.Context, url string) (*Verifier, error) {
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{url})
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return newVerifier(keys.Keyfunc, "RS256", "ES256"), nil
}

func newVerifier(key jwt.Keyfunc, algorithms ...string) *Verifier {
	return &Verifier{
		parser: jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithExpirationRequired(), jwt.WithLeeway(leeway)),
		key:    key,
	}
}

// Verify answers whose token it is. Every error wraps [ErrUnauthenticated].
func (v *Verifier) Verify(_ context.Context, token string) (Identity, error) {
	var c claims
	if _, err := v.parser.ParseWithClaims(token, &c, v.key); err != nil {
		return Identity{}, fmt.Errorf("%w: %s", ErrUnauthenticated, reason(err))
	}
	user, err := strconv.ParseInt(c.Subject, 10, 64)
	if err != nil || user < 1 || user > events.MaxID || strconv.FormatInt(user, 10) != c.Subject {
		return Identity{}, fmt.Errorf("%w: the subject is no user id", ErrUnauthenticated)
	}
	return Identity{User: user, UserType: c.UserType, Region: c.Region, Expires: c.ExpiresAt.Time}, nil
}

// reason says in words of ours why a token was refused: the library's may quote parts of it.
func reason(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "the token has expired"
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "the token is not valid yet"
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "not a token"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "the token has no expiry"
	}
	return "the signature is not valid"
}

// Sign makes an HS256 token that [NewSecretVerifier] with the same secret accepts until the identity expires.
func Sign(secret string, id Identity) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		UserType: id.UserType,
		Region:   id.Region,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   strconv.FormatInt(id.User, 10),
			ExpiresAt: jwt.NewNumericDate(id.Expires),
		},
	}).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

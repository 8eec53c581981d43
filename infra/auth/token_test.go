package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

const secret = "a-secret-of-at-least-32-bytes-long"

func TestSignedTokenIsVerifiedWithAllItSays(t *testing.T) {
	want := Identity{User: 1001, UserType: "vip", Region: "eu", Expires: time.Now().Add(time.Hour).Truncate(time.Second)}
	token, err := Sign(secret, want)
	require.NoError(t, err)

	got, err := NewSecretVerifier(secret).Verify(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestTokenIsRefused(t *testing.T) {
	in := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }
	sign := func(method jwt.SigningMethod, key any, subject string, expires *jwt.NumericDate) string {
		token, err := jwt.NewWithClaims(method, jwt.RegisteredClaims{Subject: subject, ExpiresAt: expires}).SignedString(key)
		require.NoError(t, err)
		return token
	}
	good := sign(jwt.SigningMethodHS256, []byte(secret), "1001", in(time.Hour))
	cut := good[:strings.LastIndex(good, ".")+1]

	for name, token := range map[string]string{
		"empty":                     "",
		"garbage":                   "a.b.c",
		"alg none":                  sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "1001", in(time.Hour)),
		"another algorithm":         sign(jwt.SigningMethodHS512, []byte(secret), "1001", in(time.Hour)),
		"wrong secret":              sign(jwt.SigningMethodHS256, []byte("another"), "1001", in(time.Hour)),
		"no signature":              cut,
		"expired":                   sign(jwt.SigningMethodHS256, []byte(secret), "1001", in(-time.Minute)),
		"no expiry":                 sign(jwt.SigningMethodHS256, []byte(secret), "1001", nil),
		"no subject":                sign(jwt.SigningMethodHS256, []byte(secret), "", in(time.Hour)),
		"subject 0":                 sign(jwt.SigningMethodHS256, []byte(secret), "0", in(time.Hour)),
		"negative subject":          sign(jwt.SigningMethodHS256, []byte(secret), "-1", in(time.Hour)),
		"subject above 2^53-1":      sign(jwt.SigningMethodHS256, []byte(secret), "9007199254740992", in(time.Hour)),
		"subject with leading zero": sign(jwt.SigningMethodHS256, []byte(secret), "01001", in(time.Hour)),
		"subject in words":          sign(jwt.SigningMethodHS256, []byte(secret), "alice", in(time.Hour)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewSecretVerifier(secret).Verify(t.Context(), token)
			require.ErrorIs(t, err, ErrUnauthenticated)
			if len(token) > 8 {
				require.NotContains(t, err.Error(), token[:8])
			}
		})
	}
}

func TestKeySetTokens(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "k1", ALG: jwkset.AlgES256}})
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{jwk.Marshal()}})
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	verifier, err := NewJWKSVerifier(ctx, server.URL)
	require.NoError(t, err)

	claims := jwt.RegisteredClaims{Subject: "7", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}
	signed := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	signed.Header["kid"] = "k1"
	token, err := signed.SignedString(key)
	require.NoError(t, err)
	id, err := verifier.Verify(ctx, token)
	require.NoError(t, err)
	require.EqualValues(t, 7, id.User)

	// A public key must never serve as an HMAC secret.
	forged := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	forged.Header["kid"] = "k1"
	token, err = forged.SignedString([]byte(secret))
	require.NoError(t, err)
	_, err = verifier.Verify(ctx, token)
	require.ErrorIs(t, err, ErrUnauthenticated)
}

func FuzzVerify(f *testing.F) {
	token, err := Sign(secret, Identity{User: 1, Expires: time.Now().Add(time.Hour)})
	require.NoError(f, err)
	f.Add(token)
	f.Add("a.b.c")
	verifier := NewSecretVerifier("another secret than the seed was signed with")
	f.Fuzz(func(t *testing.T, token string) {
		_, err := verifier.Verify(t.Context(), token)
		require.ErrorIs(t, err, ErrUnauthenticated)
	})
}

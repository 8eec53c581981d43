package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
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
	now := time.Now().Truncate(time.Second)
	want := Identity{User: 1001, UserType: "vip", Region: "eu", Issued: now.Add(-time.Minute), Expires: now.Add(time.Hour)}
	token, err := Sign(secret, want)
	require.NoError(t, err)

	got, err := NewSecretVerifier(secret).Verify(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestTokenSaysWhenItWasIssuedIfItDoes(t *testing.T) {
	begin := time.Now().Truncate(time.Second)
	signed, err := Sign(secret, Identity{User: 1, Expires: begin.Add(time.Hour)})
	require.NoError(t, err)
	id, err := NewSecretVerifier(secret).Verify(t.Context(), signed)
	require.NoError(t, err)
	require.WithinRange(t, id.Issued, begin, time.Now())
	for issued, want := range map[any]time.Time{nil: {}, 1.5e9: time.Unix(1.5e9, 0), 1.25: time.Unix(1, 25e7)} {
		claims := jwt.MapClaims{"sub": "1", "exp": begin.Add(time.Hour).Unix()}
		if issued != nil {
			claims["iat"] = issued
		}
		signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
		require.NoError(t, err)
		id, err := NewSecretVerifier(secret).Verify(t.Context(), signed)
		require.NoError(t, err)
		require.Equal(t, want, id.Issued)
	}
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

// A program that checks tokens in front of Millrace must read the same in them.
func TestATokenIsTakenInOneSpellingOnly(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	sign := func(header, claims string) string {
		signed := encode([]byte(header)) + "." + encode([]byte(claims))
		signature, err := jwt.SigningMethodHS256.Sign(signed, []byte(secret))
		require.NoError(t, err)
		return signed + "." + encode(signature)
	}
	const header, exp = `{"alg":"HS256","typ":"JWT"}`, `"exp":99999999999`
	verify := func(token string) error {
		_, err := NewSecretVerifier(secret).Verify(t.Context(), token)
		return err
	}
	good := sign(header, `{"sub":"1001",`+exp+`,"aud":["x"],"more":{}}`)
	require.NoError(t, verify(good))
	last := good[len(good)-1]
	for _, other := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=" {
		if byte(other) != last {
			require.ErrorIs(t, verify(good[:len(good)-1]+string(other)), ErrUnauthenticated, "%c", other)
		}
	}
	for name, token := range map[string]string{
		"a line feed behind it":          good + "\n",
		"a line feed within":             good[:9] + "\r\n" + good[9:],
		"the subject in another case":    sign(header, `{"Sub":"1001",`+exp+`}`),
		"a second subject in other case": sign(header, `{"sub":"x","SUB":"1001",`+exp+`}`),
		"the expiry in another case":     sign(header, `{"sub":"1001","EXP":99999999999}`),
		"an expiry that another hides":   sign(header, `{"sub":"1001","exp":1,"EXP":99999999999}`),
		"two subjects":                   sign(header, `{"sub":"1","sub":"1001",`+exp+`}`),
		"two members that nobody knows":  sign(header, `{"sub":"1001","x":1,"x":2,`+exp+`}`),
		"the expiry a string":            sign(header, `{"sub":"1001","exp":"99999999999"}`),
		"no expiry but null":             sign(header, `{"sub":"1001","exp":null}`),
		"an expiry beyond all time":      sign(header, `{"sub":"1001","exp":1e300}`),
		"the subject a number":           sign(header, `{"sub":1001,`+exp+`}`),
		"a region that is a list":        sign(header, `{"sub":"1001","region":["eu"],`+exp+`}`),
		"not yet":                        sign(header, `{"sub":"1001","nbf":99999999999,`+exp+`}`),
		"critical":                       sign(`{"alg":"HS256","crit":["x"],"x":1}`, `{"sub":"1001",`+exp+`}`),
		"critical but nothing":           sign(`{"alg":"HS256","crit":[]}`, `{"sub":"1001",`+exp+`}`),
		"critical null":                  sign(`{"alg":"HS256","crit":null}`, `{"sub":"1001",`+exp+`}`),
		"two algorithms":                 sign(`{"alg":"none","alg":"HS256"}`, `{"sub":"1001",`+exp+`}`),
		"the algorithm in another case":  sign(`{"ALG":"HS256"}`, `{"sub":"1001",`+exp+`}`),
		"claims with something behind":   sign(header, `{"sub":"1001",`+exp+`}{}`),
		"no object":                      sign(header, `[]`),
	} {
		require.ErrorIs(t, verify(token), ErrUnauthenticated, name)
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
	verifier, err := NewJWKSVerifier(ctx, server.URL, slog.New(slog.DiscardHandler))
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

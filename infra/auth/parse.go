package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/events"
)

// parsedToken is a token whose signature was not checked yet.
type parsedToken struct {
	header    header
	payload   []byte
	signed    string // the part that the signature covers
	signature []byte
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	// Critical lists extensions that a recipient must understand (RFC 7515, section 4.1.11). Millrace understands none.
	Critical jsontext.Value `json:"crit"`
}

// payload holds the claims that Millrace reads. Their names are compared exactly, and none may occur twice, so that a program
// that checks tokens in front of Millrace reads the same.
type payload struct {
	Subject   string   `json:"sub"`
	Expires   *float64 `json:"exp"`
	NotBefore *float64 `json:"nbf"`
	IssuedAt  *float64 `json:"iat"`
	Issuer    string   `json:"iss"`
	ID        string   `json:"jti"`
	UserType  string   `json:"user_type"`
	Region    string   `json:"region"`
}

var errNotExact = errors.New("base64url that is not exact")

// parse takes a token apart. It refuses any other encoding of the same bytes.
func parse(token string) (t parsedToken, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return t, errors.New("not three parts")
	}
	var decoded [3][]byte
	for i, part := range parts {
		if strings.ContainsAny(part, "\r\n") { // the decoder would skip them
			return t, errNotExact
		}
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return t, errNotExact
		}
	}
	if err := json.Unmarshal(decoded[0], &t.header); err != nil {
		return t, fmt.Errorf("header: %w", err)
	}
	t.payload, t.signature, t.signed = decoded[1], decoded[2], token[:strings.LastIndexByte(token, '.')]
	return t, nil
}

// identity reads the claims. The caller has checked the signature.
func (t parsedToken) identity(now time.Time) (Identity, error) {
	refuse := func(why string) (Identity, error) { return Identity{}, fmt.Errorf("%w: %s", ErrUnauthenticated, why) }
	var p payload
	if err := json.Unmarshal(t.payload, &p); err != nil {
		return refuse("the token's claims are not valid")
	}
	if p.Expires == nil {
		return refuse("the token has no expiry")
	}
	for _, at := range []*float64{p.Expires, p.NotBefore, p.IssuedAt} {
		if at != nil && math.Abs(*at) > maxTime {
			return refuse("the token's claims are not valid")
		}
	}
	expires := instant(*p.Expires)
	if !now.Before(expires.Add(leeway)) {
		return refuse("the token has expired")
	}
	if p.NotBefore != nil && now.Add(leeway).Before(instant(*p.NotBefore)) {
		return refuse("the token is not valid yet")
	}
	user, err := strconv.ParseInt(p.Subject, 10, 64)
	if err != nil || user < 1 || user > events.MaxID || strconv.FormatInt(user, 10) != p.Subject {
		return refuse("the subject is no user id")
	}
	id := Identity{User: user, UserType: p.UserType, Region: p.Region, Expires: expires}
	if p.IssuedAt != nil {
		id.Issued = instant(*p.IssuedAt)
	}
	return id, nil
}

// maxTime is the end of the year 9999 in Unix seconds.
const maxTime = 253402300799

func instant(seconds float64) time.Time {
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9))
}

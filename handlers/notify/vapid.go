package notify

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
)

// Keys is the key pair by which push services recognise this server (VAPID, RFC 8292), in base64url without padding. Browsers
// subscribe with the public key and take nothing from anybody else.
type Keys struct {
	Public  string
	Private string // never shown or logged
}

// String keeps the private key out of logs.
func (k Keys) String() string { return k.Public }

// GoString keeps the private key out of logs.
func (k Keys) GoString() string { return k.Public }

// GenerateKeys draws a key pair.
func GenerateKeys() (Keys, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Keys{}, fmt.Errorf("draw a key: %w", err)
	}
	return pair(key), nil
}

// ParseKeys reads a private key and derives the public one. The error does not contain it.
func ParseKeys(private string) (Keys, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(private)
	if err != nil {
		return Keys{}, errors.New("is not base64url")
	}
	key, err := ecdh.P256().NewPrivateKey(decoded)
	if err != nil {
		return Keys{}, errors.New("is no private key of the curve P-256")
	}
	return pair(key), nil
}

func pair(key *ecdh.PrivateKey) Keys {
	return Keys{
		Public:  base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
		Private: base64.RawURLEncoding.EncodeToString(key.Bytes()),
	}
}

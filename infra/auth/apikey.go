package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Scope is what an API key permits.
type Scope string

// The scopes. [ScopeAdmin] permits what the others do, too.
const (
	ScopeRead  Scope = "read"
	ScopeSend  Scope = "send"
	ScopeAdmin Scope = "admin"
)

// APIKey is a key of an application's backend, as a server's configuration has it: the hash instead of the secret. A secret is
// 32 random bytes, so one round of SHA-256 keeps it from being guessed.
type APIKey struct {
	Name   string
	Scopes []Scope
	hash   [sha256.Size]byte
}

// secretPrefix makes a secret easy to recognise where it should not be, for example in a repository.
const secretPrefix = "mrk_"

var apiKeyName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// DrawAPIKey returns a new secret and what [ParseAPIKey] takes for it.
func DrawAPIKey(name string, scopes []Scope) (secret, setting string, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it never fails
	secret = secretPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	hash := sha256.Sum256([]byte(secret))
	var names []string
	for _, s := range scopes {
		names = append(names, string(s))
	}
	setting = name + ":" + strings.Join(names, "+") + ":" + hex.EncodeToString(hash[:])
	_, err = ParseAPIKey(setting)
	return secret, setting, err
}

// ParseAPIKey reads NAME:SCOPES:HASH, with + between scopes and the hash in hexadecimal.
func ParseAPIKey(setting string) (APIKey, error) {
	parts := strings.Split(setting, ":")
	if len(parts) != 3 {
		return APIKey{}, fmt.Errorf("want NAME:SCOPES:HASH, as `millrace api-key` prints it")
	}
	key := APIKey{Name: parts[0]}
	if !apiKeyName.MatchString(key.Name) {
		return APIKey{}, fmt.Errorf("the name is not of letters, digits, dots, underscores and hyphens, at most 64")
	}
	for _, s := range strings.Split(parts[1], "+") {
		scope := Scope(s)
		if !slices.Contains([]Scope{ScopeRead, ScopeSend, ScopeAdmin}, scope) {
			return APIKey{}, fmt.Errorf("key %s: unknown scope %q: want read, send or admin, with + between", key.Name, s)
		}
		key.Scopes = append(key.Scopes, scope)
	}
	hash, err := hex.DecodeString(parts[2])
	if err != nil || len(hash) != sha256.Size {
		return APIKey{}, fmt.Errorf("key %s: the hash is no SHA-256 in hexadecimal", key.Name)
	}
	key.hash = [sha256.Size]byte(hash)
	return key, nil
}

// Permits reports whether the key has the scope.
func (k APIKey) Permits(s Scope) bool {
	return slices.Contains(k.Scopes, s) || slices.Contains(k.Scopes, ScopeAdmin)
}

// APIKeys are the keys that a server accepts.
type APIKeys []APIKey

// Find returns the key of the secret. How long it takes does not depend on which key that is.
func (all APIKeys) Find(secret string) (found APIKey, ok bool) {
	hash := sha256.Sum256([]byte(secret))
	for _, k := range all {
		if subtle.ConstantTimeCompare(k.hash[:], hash[:]) == 1 {
			found, ok = k, true
		}
	}
	return found, ok
}

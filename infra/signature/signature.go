// Package signature signs HTTP requests by the convention of Standard Webhooks (standardwebhooks.com): whoever receives a
// request can tell with a shared secret that it is genuine, whole and recent.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed request.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// minKey and maxKey are the bytes that the convention allows a key.
const (
	minKey = 24
	maxKey = 64
)

// Keys are the keys of one receiver. During a rotation there are several; the receiver accepts a request that one of them has
// signed.
type Keys [][]byte

// ParseKeys reads secrets with commas between them. A secret is the base64 of 24 to 64 bytes, with or without the prefix
// "whsec_". No error shows a secret.
func ParseKeys(secrets string) (Keys, error) {
	var keys Keys
	for secret := range strings.SplitSeq(secrets, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			return nil, errors.New("a secret is not base64")
		}
		if len(key) < minKey || len(key) > maxKey {
			return nil, fmt.Errorf("a secret of %d bytes: want %d to %d", len(key), minKey, maxKey)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Sign sets the three headers. The id is that of what the body tells: the same when it is sent again.
func (k Keys) Sign(header http.Header, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(k))
	for i, key := range k {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	header.Set(HeaderID, id)
	header.Set(HeaderTimestamp, timestamp)
	header.Set(HeaderSignature, strings.Join(signatures, " "))
}

package message

import (
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"

	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxEndpointBytes is well above what push services give out, which is a few hundred bytes.
	maxEndpointBytes = 2 << 10
	// authBytes is the length of a browser's secret (RFC 8291, section 3.2).
	authBytes = 16
)

// subscribePush writes straight to the store. A subscription is a matter of no conversation, so it needs no place in the order
// of the log. Whoever knows it can send to the browser, so it must not stand on a topic, where every consumer could read it
// for as long as the topic is kept.
func (s *Service) subscribePush(ctx context.Context, r *millracev1.SubscribePushRequest) error {
	if err := checkEndpoint(r.GetEndpoint()); err != nil {
		return err
	}
	p256dh, ok := decodeKey(r.GetP256Dh())
	if _, err := ecdh.P256().NewPublicKey(p256dh); !ok || err != nil {
		return refuse(codes.InvalidArgument, "p256dh: want an uncompressed public key on the curve P-256 in base64url")
	}
	auth, ok := decodeKey(r.GetAuth())
	if !ok || len(auth) != authBytes {
		return refuse(codes.InvalidArgument, "auth: want %d bytes in base64url", authBytes)
	}
	return s.store.SaveSubscription(ctx, r.GetUser(), store.Subscription{
		Endpoint: r.GetEndpoint(),
		P256dh:   base64.RawURLEncoding.EncodeToString(p256dh), Auth: base64.RawURLEncoding.EncodeToString(auth),
	})
}

func (s *Service) unsubscribePush(ctx context.Context, r *millracev1.UnsubscribePushRequest) error {
	if err := checkEndpoint(r.GetEndpoint()); err != nil {
		return err
	}
	_, err := s.store.DropSubscription(ctx, r.GetUser(), r.GetEndpoint())
	return err
}

// checkEndpoint refuses what can be no endpoint of a push service. Which addresses are dialled is the business of who dials
// them: a name may stand for another address by then.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case len(endpoint) > maxEndpointBytes:
		return refuse(codes.OutOfRange, "endpoint: at most 2 KiB")
	case err != nil || u.Scheme != "https" || u.Hostname() == "":
		return refuse(codes.InvalidArgument, "endpoint: want https://HOST/PATH")
	case u.User != nil || u.Fragment != "":
		return refuse(codes.InvalidArgument, "endpoint: want neither a user nor a fragment")
	}
	return nil
}

// decodeKey reads base64url, which browsers write without padding and some libraries with it.
func decodeKey(key string) ([]byte, bool) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(key, "="))
	return decoded, err == nil
}

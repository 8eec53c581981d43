package message

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/infra/pubsub/memory"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// The keys of the browser in the example of RFC 8291, section 5.
const (
	exampleP256dh = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	exampleAuth   = "BTBZMqHH6r4Tts7J_aSIgg"
)

func TestSubscriptionsAreKeptInOneFormUntilTheirUserUndoesThem(t *testing.T) {
	n := newNode(t, memory.Config{})
	const endpoint = "https://push.example.com/send/abc?x=1"
	subscribe := func(p256dh, auth string) error {
		return second(n.SubscribePush(t.Context(), &millracev1.SubscribePushRequest{User: 2, Endpoint: endpoint, P256Dh: p256dh, Auth: auth}))
	}
	kept := func() []store.Subscription {
		found, err := n.db.Subscriptions(t.Context(), []int64{2})
		require.NoError(t, err)
		return found[2]
	}
	require.NoError(t, subscribe(exampleP256dh, exampleAuth))
	require.NoError(t, subscribe(exampleP256dh+"=", exampleAuth+"=="))
	require.Equal(t, []store.Subscription{{Endpoint: endpoint, P256dh: exampleP256dh, Auth: exampleAuth}}, kept())

	unsubscribe := func(user int64) error {
		return second(n.UnsubscribePush(t.Context(), &millracev1.UnsubscribePushRequest{User: user, Endpoint: endpoint}))
	}
	require.NoError(t, unsubscribe(1))
	require.Len(t, kept(), 1, "another user cannot end it")
	require.NoError(t, unsubscribe(2))
	require.NoError(t, unsubscribe(2))
	require.Empty(t, kept())
}

func TestWhatIsNoSubscriptionIsRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	const endpoint = "https://push.example.com/1"
	for name, bad := range map[string]struct {
		endpoint, p256dh, auth string
		want                   codes.Code
	}{
		"no endpoint":               {"", exampleP256dh, exampleAuth, codes.InvalidArgument},
		"without TLS":               {"http://push.example.com/1", exampleP256dh, exampleAuth, codes.InvalidArgument},
		"no host":                   {"https:///1", exampleP256dh, exampleAuth, codes.InvalidArgument},
		"no URL":                    {"https://push.example.com:port/", exampleP256dh, exampleAuth, codes.InvalidArgument},
		"a password":                {"https://me:secret@push.example.com/", exampleP256dh, exampleAuth, codes.InvalidArgument},
		"a fragment":                {endpoint + "#2", exampleP256dh, exampleAuth, codes.InvalidArgument},
		"a long endpoint":           {endpoint + strings.Repeat("1", maxEndpointBytes), exampleP256dh, exampleAuth, codes.OutOfRange},
		"no key":                    {endpoint, "", exampleAuth, codes.InvalidArgument},
		"a key that is cut":         {endpoint, exampleP256dh[:80], exampleAuth, codes.InvalidArgument},
		"a key that is no point":    {endpoint, exampleP256dh[:86] + "8", exampleAuth, codes.InvalidArgument},
		"a key in another alphabet": {endpoint, strings.ReplaceAll(exampleP256dh, "-", "+"), exampleAuth, codes.InvalidArgument},
		"no secret":                 {endpoint, exampleP256dh, "", codes.InvalidArgument},
		"a short secret":            {endpoint, exampleP256dh, exampleAuth[:20], codes.InvalidArgument},
		"a long secret":             {endpoint, exampleP256dh, exampleAuth + exampleAuth, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			err := second(n.SubscribePush(t.Context(), &millracev1.SubscribePushRequest{User: 2, Endpoint: bad.endpoint, P256Dh: bad.p256dh, Auth: bad.auth}))
			requireCode(t, bad.want, err)
			require.NotContains(t, err.Error(), "secret@", "an endpoint is a secret")
		})
	}
	requireCode(t, codes.InvalidArgument, second(n.UnsubscribePush(t.Context(), &millracev1.UnsubscribePushRequest{User: 2})))
	found, err := n.db.Subscriptions(t.Context(), []int64{2})
	require.NoError(t, err)
	require.Empty(t, found)
}

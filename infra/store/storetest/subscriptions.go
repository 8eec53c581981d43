package storetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/store"
)

func subscriptionTests() []test {
	browser := func(n int) store.Subscription {
		return store.Subscription{Endpoint: fmt.Sprint("https://push.example.com/", n), P256dh: fmt.Sprint("key ", n), Auth: fmt.Sprint("secret ", n)}
	}
	save := func(t *testing.T, s Store, user int64, subscriptions ...store.Subscription) {
		t.Helper()
		for _, subscription := range subscriptions {
			require.NoError(t, s.SaveSubscription(t.Context(), user, subscription))
		}
	}
	of := func(t *testing.T, s Store, users ...int64) map[int64][]store.Subscription {
		t.Helper()
		found, err := s.Subscriptions(t.Context(), users)
		require.NoError(t, err)
		return found
	}
	return []test{
		{"a user's subscriptions are those that it has saved, the oldest first", func(t *testing.T, s Store) {
			save(t, s, alice, browser(1), browser(2))
			save(t, s, bob, browser(3))
			require.Equal(t, map[int64][]store.Subscription{alice: {browser(1), browser(2)}, bob: {browser(3)}}, of(t, s, alice, bob, carol))
			require.Empty(t, of(t, s, carol))
			require.Empty(t, of(t, s))
		}},
		{"a subscription that is saved again gets its new keys and counts as the latest", func(t *testing.T, s Store) {
			save(t, s, alice, browser(1), browser(2))
			again := browser(1)
			again.Auth = "another secret"
			save(t, s, alice, again)
			require.Equal(t, []store.Subscription{browser(2), again}, of(t, s, alice)[alice])
		}},
		{"a browser belongs to the user who has subscribed with it last", func(t *testing.T, s Store) {
			save(t, s, alice, browser(1))
			save(t, s, bob, browser(1))
			require.Equal(t, map[int64][]store.Subscription{bob: {browser(1)}}, of(t, s, alice, bob))
		}},
		{"only its own user drops a subscription", func(t *testing.T, s Store) {
			save(t, s, alice, browser(1), browser(2))
			for _, drop := range []struct {
				user int64
				was  bool
			}{{bob, false}, {alice, true}, {alice, false}} {
				was, err := s.DropSubscription(t.Context(), drop.user, browser(1).Endpoint)
				require.NoError(t, err)
				require.Equal(t, drop.was, was)
			}
			require.Equal(t, []store.Subscription{browser(2)}, of(t, s, alice)[alice])
		}},
		{"one subscription too many takes the place of the oldest", func(t *testing.T, s Store) {
			save(t, s, bob, browser(1000))
			var want []store.Subscription
			for n := range store.MaxSubscriptions + 2 {
				save(t, s, alice, browser(n))
				want = append(want, browser(n))
			}
			require.Equal(t, want[2:], of(t, s, alice)[alice])
			require.Len(t, of(t, s, bob)[bob], 1)
		}},
	}
}

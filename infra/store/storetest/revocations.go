package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func revocationTests() []test {
	return []test{
		{"of the times before which a user's tokens are revoked the latest counts, in whatever order they are saved", func(t *testing.T, s Store) {
			requireRevoked(t, s, alice, 0)
			revoke(t, s, revocation(alice, 200), revocation(bob, 50), revocation(alice, 100))
			requireRevoked(t, s, alice, 200)
			requireRevoked(t, s, bob, 50)
			revoke(t, s, revocation(alice, 150))
			revoke(t, s, revocation(alice, 200))
			revoke(t, s)
			requireRevoked(t, s, alice, 200)
			revoke(t, s, revocation(alice, 201))
			requireRevoked(t, s, alice, 201)
			requireRevoked(t, s, carol, 0)
		}},
		{"whose tokens are revoked was not seen by that", func(t *testing.T, s Store) {
			revoke(t, s, revocation(alice, 200))
			found, err := s.LastSeen(t.Context(), []int64{alice})
			require.NoError(t, err)
			require.Empty(t, found)
		}},
	}
}

func revocation(user, before int64) events.Record {
	return events.Record{
		Event:    events.Event{Type: events.TokensRevoked, User: user, Before: before, Timestamp: 1_700_000_000},
		Position: events.Position{Partition: 3, Seq: 10},
	}
}

func revoke(t *testing.T, s Store, records ...events.Record) {
	t.Helper()
	require.NoError(t, s.SaveRevocations(t.Context(), records))
}

func requireRevoked(t *testing.T, s Store, user, before int64) {
	t.Helper()
	got, err := s.RevokedBefore(t.Context(), user)
	require.NoError(t, err)
	require.Equal(t, before, got)
}

package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func userTests() []test {
	return []test{
		{"of a user the latest record is kept, in whatever order they are saved", func(t *testing.T, s Store) {
			online, offline := seen(events.UserOnline, alice, 10), seen(events.UserOffline, alice, 12)
			saveUsers(t, s, online)
			requireSeen(t, s, online)
			saveUsers(t, s, offline, online)
			requireSeen(t, s, offline)
			saveUsers(t, s, seen(events.UserOnline, alice, 11))
			requireSeen(t, s, offline)
			saveUsers(t, s, seen(events.UserOnline, alice, 13), seen(events.UserOffline, alice, 14))
			requireSeen(t, s, seen(events.UserOffline, alice, 14))
		}},
		{"a record that is saved again changes nothing", func(t *testing.T, s Store) {
			record := seen(events.UserOnline, alice, 10)
			saveUsers(t, s, record)
			saveUsers(t, s, record, record)
			requireSeen(t, s, record)
		}},
		{"of a batch each user is saved", func(t *testing.T, s Store) {
			all := []events.Record{seen(events.UserOnline, alice, 10), seen(events.UserOffline, bob, 11), seen(events.UserOnline, carol, 12)}
			saveUsers(t, s, all...)
			requireSeen(t, s, all...)
			saveUsers(t, s)
			requireSeen(t, s, all...)
		}},
		{"nothing is known of who was never seen", func(t *testing.T, s Store) {
			saveUsers(t, s, seen(events.UserOnline, alice, 10))
			found, err := s.LastSeen(t.Context(), []int64{bob})
			require.NoError(t, err)
			require.Empty(t, found)
			found, err = s.LastSeen(t.Context(), nil)
			require.NoError(t, err)
			require.Empty(t, found)
		}},
		{"who is online is known by partition", func(t *testing.T, s Store) {
			elsewhere := seen(events.UserOnline, carol, 12)
			elsewhere.Partition++
			saveUsers(t, s, seen(events.UserOnline, bob, 10), seen(events.UserOnline, alice, 11), elsewhere)
			require.Equal(t, []int64{alice, bob}, onlineIn(t, s, 3))
			require.Equal(t, []int64{carol}, onlineIn(t, s, 4))
			saveUsers(t, s, seen(events.UserOffline, alice, 13))
			require.Equal(t, []int64{bob}, onlineIn(t, s, 3))
			require.Empty(t, onlineIn(t, s, 5))
		}},
	}
}

func seen(kind events.Type, user, seq int64) events.Record {
	return events.Record{
		Event:    events.Event{Type: kind, User: user, Timestamp: 1_700_000_000 + seq},
		Position: events.Position{Partition: 3, Seq: seq},
	}
}

func saveUsers(t *testing.T, s Store, records ...events.Record) {
	t.Helper()
	require.NoError(t, s.SaveUsers(t.Context(), records))
}

// requireSeen requires that the records are the latest ones of their users.
func requireSeen(t *testing.T, s Store, records ...events.Record) {
	t.Helper()
	var users []int64
	want := make(map[int64]events.Record)
	for _, r := range records {
		users = append(users, r.User)
		want[r.User] = r
	}
	got, err := s.LastSeen(t.Context(), users)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func onlineIn(t *testing.T, s Store, partition int32) []int64 {
	t.Helper()
	users, err := s.OnlineUsers(t.Context(), partition)
	require.NoError(t, err)
	return users
}

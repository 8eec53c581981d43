package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func blockTests() []test {
	aliceBob, bobAlice := store.Pair{By: alice, User: bob}, store.Pair{By: bob, User: alice}
	return []test{
		{"who blocks whom is kept, and the other way round is another pair", func(t *testing.T, s Store) {
			saveUsers(t, s, block(events.UserBlocked, aliceBob, 10))
			require.Equal(t, map[store.Pair]store.Block{aliceBob: {Seq: 10, Blocked: true}}, blocks(t, s, aliceBob, bobAlice))
			require.Equal(t, []int64{bob}, blocked(t, s, alice, 10))
			require.Empty(t, blocked(t, s, bob, 10))
		}},
		{"of a pair the latest record is kept, in whatever order and however often they are saved", func(t *testing.T, s Store) {
			on, off := block(events.UserBlocked, aliceBob, 10), block(events.UserUnblocked, aliceBob, 12)
			saveUsers(t, s, off)
			saveUsers(t, s, on, on)
			require.Equal(t, map[store.Pair]store.Block{aliceBob: {Seq: 12}}, blocks(t, s, aliceBob))
			require.Empty(t, blocked(t, s, alice, 10))
			saveUsers(t, s, block(events.UserBlocked, aliceBob, 14), block(events.UserUnblocked, aliceBob, 13), off, on)
			saveUsers(t, s, off)
			require.Equal(t, map[store.Pair]store.Block{aliceBob: {Seq: 14, Blocked: true}}, blocks(t, s, aliceBob))
			require.Equal(t, []int64{bob}, blocked(t, s, alice, 10))
		}},
		{"a list of blocked users ascends and is as long as asked for", func(t *testing.T, s Store) {
			saveUsers(t, s, block(events.UserBlocked, store.Pair{By: alice, User: carol}, 10), block(events.UserBlocked, aliceBob, 11),
				block(events.UserBlocked, store.Pair{By: alice, User: 7}, 12), block(events.UserUnblocked, store.Pair{By: alice, User: 7}, 13))
			require.Equal(t, []int64{bob, carol}, blocked(t, s, alice, 10))
			require.Equal(t, []int64{bob}, blocked(t, s, alice, 1))
		}},
		{"blocks and presence are kept apart, and other records are ignored", func(t *testing.T, s Store) {
			online := seen(events.UserOnline, bob, 10)
			later := seen("user_renamed", bob, 12)
			saveUsers(t, s, online, block(events.UserBlocked, aliceBob, 11), later)
			requireSeen(t, s, online)
			require.Equal(t, map[store.Pair]store.Block{aliceBob: {Seq: 11, Blocked: true}}, blocks(t, s, aliceBob))
		}},
		{"nothing is known of a pair that was never blocked", func(t *testing.T, s Store) {
			require.Empty(t, blocks(t, s, aliceBob))
			require.Empty(t, blocks(t, s))
			require.Empty(t, blocked(t, s, alice, 10))
		}},
	}
}

func block(kind events.Type, pair store.Pair, seq int64) events.Record {
	r := seen(kind, pair.User, seq)
	r.By = pair.By
	return r
}

func blocks(t *testing.T, s Store, pairs ...store.Pair) map[store.Pair]store.Block {
	t.Helper()
	found, err := s.Blocks(t.Context(), pairs)
	require.NoError(t, err)
	return found
}

func blocked(t *testing.T, s Store, by int64, limit int) []int64 {
	t.Helper()
	users, err := s.Blocked(t.Context(), by, limit)
	require.NoError(t, err)
	return users
}

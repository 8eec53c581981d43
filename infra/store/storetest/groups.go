package storetest

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func groupTests() []test {
	theGroup := store.Group{ID: club, Name: "the group", Grants: store.Founded(alice), Open: true}
	gone := theGroup
	gone.Dissolved = 30
	creation := at(10, created(club, alice, bob))
	var tests []test
	for _, c := range []struct {
		name    string
		records []events.Record
		group   store.Group
		carol   []store.Membership
		members map[int64]int64 // by user, the position of joining
	}{
		{"a new group has its members", nil, theGroup, nil, map[int64]int64{alice: 10, bob: 10}},
		{
			"a group is created once",
			[]events.Record{at(11, created(club, alice, carol))},
			theGroup, nil,
			map[int64]int64{alice: 10, bob: 10},
		},
		{
			"who joins is a member",
			[]events.Record{at(11, joined(club, carol))},
			theGroup, stays([2]int64{11, 0}),
			map[int64]int64{alice: 10, bob: 10, carol: 11},
		},
		{
			"a member that joins stays as it is",
			[]events.Record{at(11, joined(club, carol)), at(12, joined(club, carol)), at(13, joined(club, alice))},
			theGroup, stays([2]int64{11, 0}),
			map[int64]int64{alice: 10, bob: 10, carol: 11},
		},
		{
			"who leaves is no member",
			[]events.Record{at(11, joined(club, carol)), at(12, left(club, carol)), at(13, left(club, bob))},
			theGroup, stays([2]int64{11, 12}),
			map[int64]int64{alice: 10},
		},
		{
			"who is no member cannot leave",
			[]events.Record{at(11, left(club, carol)), at(12, joined(club, carol)), at(13, left(club, carol)), at(14, left(club, carol))},
			theGroup, stays([2]int64{12, 13}),
			map[int64]int64{alice: 10, bob: 10},
		},
		{
			"who comes back has another stay",
			[]events.Record{at(11, joined(club, carol)), at(12, left(club, carol)), at(20, joined(club, carol))},
			theGroup, stays([2]int64{11, 12}, [2]int64{20, 0}),
			map[int64]int64{alice: 10, bob: 10, carol: 20},
		},
		{
			"a step that is repeated later does not undo what came between",
			[]events.Record{
				at(11, joined(club, carol)), at(12, left(club, carol)), at(20, joined(club, carol)), repeatOf(at(12, left(club, carol)), 21),
			},
			theGroup, stays([2]int64{11, 12}, [2]int64{20, 0}),
			map[int64]int64{alice: 10, bob: 10, carol: 20},
		},
		{
			"everybody leaves a dissolved group",
			[]events.Record{at(11, joined(club, carol)), at(12, left(club, carol)), at(20, joined(club, carol)), at(30, dissolved(club, alice))},
			gone,
			removed(stays([2]int64{11, 12}, [2]int64{20, 30})), nil,
		},
		{
			"of two renamings the later holds, in whatever order they come",
			[]events.Record{at(12, renamed(alice, "later")), at(11, renamed(alice, "earlier"))},
			store.Group{ID: club, Name: "later", Grants: store.Founded(alice), Open: true},
			nil,
			map[int64]int64{alice: 10, bob: 10},
		},
		{
			"a renaming that is repeated later does not undo what came between",
			[]events.Record{
				at(11, renamed(alice, "one")), at(12, renamed(alice, "two")), repeatOf(at(11, renamed(alice, "one")), 13),
			},
			store.Group{ID: club, Name: "two", Grants: store.Founded(alice), Open: true},
			nil,
			map[int64]int64{alice: 10, bob: 10},
		},
		{
			"a dissolved group stays as it is",
			[]events.Record{
				at(11, joined(club, carol)), at(30, dissolved(club, alice)), at(31, joined(club, carol)), at(32, left(club, carol)),
				at(33, dissolved(club, alice)), at(34, created(club, alice, carol)),
			},
			gone,
			removed(stays([2]int64{11, 30})), nil,
		},
	} {
		records := append([]events.Record{creation}, c.records...)
		check := func(t *testing.T, s Store) {
			got, err := s.Group(t.Context(), club)
			require.NoError(t, err)
			require.Equal(t, c.group, got)
			members, err := s.Members(t.Context(), club)
			require.NoError(t, err)
			require.Equal(t, slices.Sorted(maps.Keys(c.members)), members)
			ofCarol, err := s.Stays(t.Context(), carol, club)
			require.NoError(t, err)
			require.Equal(t, c.carol, ofCarol)
			for _, user := range []int64{alice, bob, carol} {
				var want []store.Membership
				if since := c.members[user]; since != 0 {
					want = []store.Membership{{GroupID: club, User: user, Joined: since}}
				}
				got, err := s.Memberships(t.Context(), user)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		}
		tests = append(tests, test{c.name, func(t *testing.T, s Store) {
			save(t, s, records...)
			check(t, s)
		}}, test{c.name + ", all delivered again", func(t *testing.T, s Store) {
			saveEach(t, s, records...)
			saveEach(t, s, records...)
			save(t, s, records...)
			check(t, s)
		}})
	}
	return append(tests, test{"an unknown group is not found", func(t *testing.T, s Store) {
		save(t, s, at(10, created(3, alice)))
		for _, id := range []int64{club, team} {
			_, err := s.Group(t.Context(), id)
			require.ErrorIs(t, err, store.ErrNotFound)
			members, err := s.Members(t.Context(), id)
			require.NoError(t, err)
			require.Empty(t, members)
		}
		got, err := s.Stays(t.Context(), carol, club)
		require.NoError(t, err)
		require.Empty(t, got)
	}}, test{"a group is open if it was created so", func(t *testing.T, s Store) {
		save(t, s, at(10, created(club, alice)), at(11, closed(created(team, alice))))
		for id, want := range map[int64]bool{club: true, team: false} {
			got, err := s.Group(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, want, got.Open)
		}
	}}, test{"a stay tells whether somebody else has ended it", func(t *testing.T, s Store) {
		expelled := left(club, carol)
		expelled.By = alice
		saveEach(t, s, at(10, created(club, alice, carol)), at(11, left(club, carol)), at(12, joined(club, carol)),
			at(13, expelled), at(14, joined(club, carol)), at(15, dissolved(club, alice)))
		got, err := s.Stays(t.Context(), carol, club)
		require.NoError(t, err)
		want := stays([2]int64{10, 11}, [2]int64{12, 13}, [2]int64{14, 15})
		want[1].Removed, want[2].Removed = true, true
		require.Equal(t, want, got)
	}}, test{"the first id that is drawn for a creation is the group's", reservations}, test{"groups are kept apart", func(t *testing.T, s Store) {
		save(t, s, creation, at(11, created(team, carol, alice)), at(12, left(team, alice)), at(13, joined(club, carol)))
		got, err := s.Memberships(t.Context(), carol)
		require.NoError(t, err)
		require.ElementsMatch(t, []store.Membership{
			{GroupID: club, User: carol, Joined: 13}, {GroupID: team, User: carol, Joined: 11},
		}, got)
		got, err = s.Memberships(t.Context(), alice)
		require.NoError(t, err)
		require.Equal(t, []store.Membership{{GroupID: club, User: alice, Joined: 10}}, got)

		save(t, s, at(14, joined(team, bob)), at(15, dissolved(team, carol)))
		for user, joined := range map[int64]int64{alice: 10, bob: 10, carol: 13} {
			got, err = s.Memberships(t.Context(), user)
			require.NoError(t, err)
			require.Equal(t, []store.Membership{{GroupID: club, User: user, Joined: joined}}, got)
		}
	}})
}

func reservations(t *testing.T, s Store) {
	reserve := func(owner int64, clientMsgID string, drawn int64) int64 {
		id, err := s.ReserveGroup(t.Context(), owner, clientMsgID, drawn)
		require.NoError(t, err)
		return id
	}
	require.EqualValues(t, 5, reserve(alice, "a", 5))
	require.EqualValues(t, 5, reserve(alice, "a", 6))
	require.EqualValues(t, 7, reserve(alice, "b", 7))
	require.EqualValues(t, 8, reserve(bob, "a", 8))

	byLog, reserved := created(club, alice), created(team, alice)
	byLog.ClientMsgID, reserved.ClientMsgID = "in the log", "a"
	save(t, s, at(10, byLog), at(11, reserved))
	require.Equal(t, club, reserve(alice, "in the log", 9), "a store that was lost is made anew from the log")
	require.EqualValues(t, 5, reserve(alice, "a", 9))

	ids := make([]int64, 8)
	var calls sync.WaitGroup
	for i := range ids {
		calls.Go(func() {
			id, err := s.ReserveGroup(t.Context(), carol, "at once", int64(100+i))
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	calls.Wait()
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(ids))), 1, "of many at once one is first")
}

// stays returns carol's stays in the club with the positions at which she joined and left.
func stays(bounds ...[2]int64) []store.Membership {
	var of []store.Membership
	for _, b := range bounds {
		of = append(of, store.Membership{GroupID: club, User: carol, Joined: b[0], Left: b[1]})
	}
	return of
}

// removed returns the stays with the last one ended by somebody else.
func removed(of []store.Membership) []store.Membership {
	of[len(of)-1].Removed = true
	return of
}

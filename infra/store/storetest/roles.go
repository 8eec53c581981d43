package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// roleTests tests what roles let their holders do. Changes that were overtaken are no error and have no effect.
func roleTests() []test {
	const member, admin, owner = events.RoleMember, events.RoleAdmin, events.RoleOwner
	begin := at(10, closed(created(club, alice, bob, carol)))
	said := at(11, inGroup(carol, club, "hello"))
	join := func(by, user int64) events.Event {
		e := joined(club, user)
		e.By = by
		return e
	}
	var tests []test
	for _, c := range []struct {
		name    string
		records []events.Record
		owner   int64
		admins  []int64
		mutes   map[int64]int64
		members []int64
		kept    []int64 // the positions of the changes that took effect
	}{
		{"an admin adds and removes", []events.Record{
			at(12, role(alice, bob, admin)), at(13, expelled(bob, carol)), at(14, join(bob, 1004)),
		}, alice, []int64{bob}, nil, []int64{alice, bob, 1004}, []int64{12, 13, 14}},
		{
			"an admin renames",
			[]events.Record{at(12, role(alice, bob, admin)), at(13, renamed(bob, "ours"))},
			alice,
			[]int64{bob},
			nil,
			[]int64{alice, bob, carol},
			[]int64{12, 13},
		},
		{"only the owner removes an admin", []events.Record{
			at(12, role(alice, bob, admin)), at(13, role(alice, carol, admin)), at(14, expelled(bob, carol)), at(15, expelled(carol, alice)),
			at(16, expelled(alice, bob)),
		}, alice, []int64{carol}, nil, []int64{alice, carol}, []int64{12, 13, 16}},
		{"what an admin did before it was demoted holds, what it did after does not", []events.Record{
			at(12, role(alice, bob, admin)), at(13, join(bob, 1004)), at(14, role(alice, bob, member)), at(15, join(bob, 1005)),
			at(16, expelled(bob, carol)), at(17, muted(bob, carol, 99)),
		}, alice, nil, nil, []int64{alice, bob, carol, 1004}, []int64{12, 13, 14}},
		{"the former owner is an admin", []events.Record{
			at(12, role(alice, bob, owner)), at(13, dissolved(club, alice)), at(14, role(alice, carol, admin)), at(15, expelled(alice, bob)),
			at(16, expelled(alice, carol)), at(17, role(bob, alice, member)),
		}, bob, nil, nil, []int64{alice, bob}, []int64{12, 16, 17}},
		{
			"of two who are to be the owner the first is",
			[]events.Record{at(12, role(alice, bob, owner)), at(13, role(alice, carol, owner))},
			bob,
			[]int64{alice},
			nil,
			[]int64{alice, bob, carol},
			[]int64{12},
		},
		{
			"who became the owner a moment before stays",
			[]events.Record{at(12, role(alice, bob, owner)), at(13, left(club, bob))},
			bob,
			[]int64{alice},
			nil,
			[]int64{alice, bob, carol},
			[]int64{12},
		},
		{"the ownership goes round", []events.Record{
			at(12, role(alice, bob, owner)), at(13, role(bob, carol, owner)), at(14, role(carol, alice, owner)), at(15, left(club, bob)),
		}, alice, []int64{carol}, nil, []int64{alice, carol}, []int64{12, 13, 14, 15}},
		{
			"who leaves loses the role",
			[]events.Record{at(12, role(alice, bob, admin)), at(13, left(club, bob)), at(14, joined(club, bob)), at(15, expelled(bob, carol))},
			alice, nil, nil,
			[]int64{alice, bob, carol},
			[]int64{12, 13, 14},
		},
		{
			"nobody has a role outside of the group",
			[]events.Record{at(12, role(alice, 1004, admin)), at(13, muted(alice, 1004, 99)), at(14, join(alice, 1004))},
			alice, nil, nil,
			[]int64{alice, bob, carol, 1004},
			[]int64{14},
		},
		{
			"a role that somebody has already is no change",
			[]events.Record{at(12, role(alice, bob, member)), at(13, role(alice, bob, admin)), at(14, role(alice, bob, admin))},
			alice,
			[]int64{bob},
			nil,
			[]int64{alice, bob, carol},
			[]int64{13},
		},
		{
			"an earlier role that comes late has no effect",
			[]events.Record{at(14, role(alice, bob, admin)), at(13, role(alice, bob, member)), at(12, role(alice, bob, owner))},
			alice,
			[]int64{bob},
			nil,
			[]int64{alice, bob, carol},
			[]int64{14},
		},
		{
			"the latest mute counts, in whatever order they come",
			[]events.Record{at(13, muted(alice, bob, 99)), at(12, muted(alice, bob, 50)), at(14, muted(alice, 0, 70))},
			alice, nil,
			map[int64]int64{bob: 99, 0: 70},
			[]int64{alice, bob, carol},
			[]int64{12, 13, 14},
		},
		{
			"a mute is ended",
			[]events.Record{at(12, muted(alice, bob, 99)), at(13, muted(alice, 0, 99)), at(14, muted(alice, bob, 0)), at(15, muted(alice, 0, 0))},
			alice, nil, nil,
			[]int64{alice, bob, carol},
			[]int64{12, 13, 14, 15},
		},
		{"neither the owner nor an admin is muted", []events.Record{
			at(12, role(alice, bob, admin)), at(13, muted(bob, alice, 99)), at(14, muted(alice, bob, 99)), at(15, muted(bob, carol, 99)),
		}, alice, []int64{bob}, map[int64]int64{carol: 99}, []int64{alice, bob, carol}, []int64{12, 15}},
		{
			"a mute outlasts leaving",
			[]events.Record{at(12, muted(alice, bob, 99)), at(13, left(club, bob)), at(14, joined(club, bob))},
			alice, nil,
			map[int64]int64{bob: 99},
			[]int64{alice, bob, carol},
			[]int64{12, 13, 14},
		},
		{
			"a dissolved group has no roles to give",
			[]events.Record{at(12, dissolved(club, alice)), at(13, role(alice, bob, admin)), at(14, muted(alice, bob, 99))},
			alice, nil, nil, nil,
			[]int64{12},
		},
		{"a repeat does not undo what came between", []events.Record{
			at(12, role(alice, bob, admin)), at(13, role(alice, bob, member)), repeatOf(at(12, role(alice, bob, admin)), 14),
			at(15, muted(alice, bob, 99)), at(16, muted(alice, bob, 0)), repeatOf(at(15, muted(alice, bob, 99)), 17),
		}, alice, nil, nil, []int64{alice, bob, carol}, []int64{12, 13, 15, 16}},
	} {
		check := func(t *testing.T, s Store) {
			got, err := s.Group(t.Context(), club)
			require.NoError(t, err)
			require.Equal(t, c.owner, got.Grants.Owner())
			require.ElementsMatch(t, c.admins, got.Grants.Admins())
			require.Equal(t, c.mutes, got.Mutes)
			members, err := s.Members(t.Context(), club)
			require.NoError(t, err)
			require.Equal(t, c.members, members)
			missed, err := s.Missed(t.Context(), alice, []events.Range{upTo(clubRoom, 11, 100)}, 100)
			require.NoError(t, err)
			var kept []int64
			for _, r := range missed {
				kept = append(kept, r.Seq)
				if r.Type == events.MemberMuted {
					require.NotNil(t, r.Until)
				}
			}
			require.Equal(t, c.kept, kept)
		}
		records := append([]events.Record{begin}, c.records...)
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
	return append(tests, test{"owner and admins recall what others have said, as long as they are that", func(t *testing.T, s Store) {
		one, two, three := at(12, inGroup(carol, club, "one")), at(13, inGroup(alice, club, "two")), at(14, inGroup(carol, club, "three"))
		records := []events.Record{
			begin, said, one, two, three, at(15, role(alice, bob, admin)), at(16, recall(alice, said)), at(17, recall(bob, one)),
			at(18, recall(bob, two)), at(19, role(alice, bob, member)), at(20, recall(bob, three)),
		}
		save(t, s, records...)
		saveEach(t, s, records...)
		requireHistory(t, s, clubRoom, stored(withdrawn(said)), stored(withdrawn(one)), stored(withdrawn(two)), stored(three))
	}}, test{"grants tell who had which role at any position", func(t *testing.T, s Store) {
		save(t, s, begin, at(12, role(alice, bob, owner)), at(14, role(bob, alice, member)), at(16, left(club, alice)), at(18, joined(club, alice)))
		got, err := s.Group(t.Context(), club)
		require.NoError(t, err)
		for user, want := range map[int64]map[int64]events.Role{
			alice: {10: "", 11: owner, 12: owner, 13: admin, 14: admin, 15: member, 16: member, 17: "", 18: "", 19: member},
			bob:   {10: "", 12: member, 13: owner, 19: owner},
			1004:  {19: ""},
		} {
			stays, err := s.Stays(t.Context(), user, club)
			require.NoError(t, err)
			for seq, role := range want {
				require.Equal(t, role, store.Standing{User: user, Grants: got.Grants, Stays: stays}.Role(seq), "user %d at %d", user, seq)
			}
		}
	}})
}

package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func headTests() []test {
	return []test{
		{"a user without conversations has none", func(t *testing.T, s Store) {
			save(t, s, at(10, direct(alice, bob, "one")))
			require.Empty(t, headsOf(t, s, carol, 10))
		}},
		{"the latest conversation is first and the limit holds", func(t *testing.T, s Store) {
			save(t, s, at(10, direct(alice, bob, "one")), at(11, created(club, alice, bob)), at(12, direct(carol, alice, "two")))
			require.Equal(t, []string{aliceCarol, clubRoom, aliceBob}, names(headsOf(t, s, alice, 10)))
			save(t, s, at(13, direct(bob, alice, "three")))
			require.Equal(t, []string{aliceBob, aliceCarol, clubRoom}, names(headsOf(t, s, alice, 10)))
			save(t, s, at(14, inGroup(bob, club, "four")))
			require.Equal(t, []string{clubRoom, aliceBob}, names(headsOf(t, s, alice, 2)))
		}},
		{"a user's participations are its direct conversations and the groups that it ever belonged to", func(t *testing.T, s Store) {
			save(t, s, at(10, direct(alice, bob, "one")), at(11, created(club, alice, bob)), at(12, direct(carol, alice, "two")), at(13, left(club, bob)))
			for user, want := range map[int64][]string{alice: {clubRoom, aliceBob, aliceCarol}, bob: {clubRoom, aliceBob}, 4711: nil} {
				got, err := s.Participations(t.Context(), user)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		}},
		{"a head shows the newest message", func(t *testing.T, s Store) {
			last := at(12, direct(bob, alice, "two"))
			saveEach(t, s, at(10, direct(alice, bob, "one")), last, at(11, direct(alice, bob, "late")))
			want := stored(last)
			require.Equal(t, &want, headsOf(t, s, alice, 10)[0].Last)
			save(t, s, at(13, recall(bob, last)))
			want = stored(withdrawn(last))
			require.Equal(t, &want, headsOf(t, s, alice, 10)[0].Last)
		}},
		{"others' messages after the read mark are unread", unread},
		{"a read mark never goes back", func(t *testing.T, s Store) {
			save(t, s, at(10, direct(alice, bob, "one")), at(11, direct(alice, bob, "two")), at(12, direct(alice, bob, "three")))
			saveEach(t, s, at(13, read(bob, aliceBob, 11)), at(14, read(bob, aliceBob, 10)))
			head := headsOf(t, s, bob, 1)[0]
			require.EqualValues(t, 11, head.ReadSeq)
			require.Equal(t, 1, head.Unread)
			for user, want := range map[int64]int64{bob: 11, alice: 0, carol: 0} {
				mark, err := s.ReadMark(t.Context(), user, aliceBob)
				require.NoError(t, err)
				require.Equal(t, want, mark)
			}
		}},
		{"who has read so far is known: both of two, and of a group its members", func(t *testing.T, s Store) {
			save(t, s, at(10, direct(alice, bob, "one")), at(11, created(club, alice, bob, carol)), at(12, inGroup(alice, club, "two")),
				at(13, read(alice, aliceBob, 10)), at(14, read(bob, aliceBob, 10)), at(15, read(carol, clubRoom, 12)),
				at(16, read(bob, clubRoom, 12)), at(17, read(alice, clubRoom, 11)), at(18, left(club, carol)))
			for _, c := range []struct {
				conversation string
				seq          int64
				limit        int
				want         []store.Reader
			}{
				{aliceBob, 10, 9, []store.Reader{{User: alice, Seq: 10}, {User: bob, Seq: 10}}},
				{aliceBob, 10, 1, []store.Reader{{User: alice, Seq: 10}}},
				{aliceBob, 11, 9, nil},
				{clubRoom, 11, 9, []store.Reader{{User: alice, Seq: 11}, {User: bob, Seq: 12}}},
				{clubRoom, 12, 9, []store.Reader{{User: bob, Seq: 12}}},
				{aliceCarol, 1, 9, nil},
			} {
				got, err := s.Readers(t.Context(), c.conversation, c.seq, c.limit)
				require.NoError(t, err)
				require.Equal(t, c.want, got, "%s from %d", c.conversation, c.seq)
			}
		}},
		{"a read mark in an unknown conversation makes none", func(t *testing.T, s Store) {
			save(t, s, at(10, read(alice, aliceCarol, 9)), at(11, read(bob, clubRoom, 9)))
			for _, user := range []int64{alice, bob, carol} {
				require.Empty(t, headsOf(t, s, user, 10))
			}
		}},
		{"unread messages are counted up to 999", func(t *testing.T, s Store) {
			var records []events.Record
			for i := int64(1); i <= 1010; i++ {
				records = append(records, at(i, direct(alice, bob, fmt.Sprint(i))))
			}
			save(t, s, records...)
			require.Equal(t, 999, headsOf(t, s, bob, 1)[0].Unread)
			require.Zero(t, headsOf(t, s, alice, 1)[0].Unread)
			save(t, s, at(2000, read(bob, aliceBob, 12)))
			require.Equal(t, 998, headsOf(t, s, bob, 1)[0].Unread)
		}},
		{"a list is read in pages that meet", pagesOfHeads},
		{"a group's head begins where the user joined", groupHead},
		{"a group without messages has a head without one", func(t *testing.T, s Store) {
			save(t, s, at(10, created(club, alice)))
			require.Equal(t, []store.Head{{Place: store.Place{ActiveAt: started + 10, Conversation: clubRoom}}}, headsOf(t, s, alice, 10))
		}},
		{"a group that was left or dissolved has no head", func(t *testing.T, s Store) {
			save(t, s, at(10, created(club, alice, bob)), at(11, inGroup(alice, club, "one")), at(12, left(club, bob)))
			require.Empty(t, headsOf(t, s, bob, 10))
			save(t, s, at(13, dissolved(club, alice)))
			require.Empty(t, headsOf(t, s, alice, 10))
		}},
	}
}

func unread(t *testing.T, s Store) {
	fromBob := at(11, direct(bob, alice, "one"))
	save(t, s,
		at(10, direct(alice, bob, "own")), fromBob, at(12, direct(bob, alice, "two")), at(13, direct(alice, bob, "own too")),
		at(14, direct(bob, alice, "three")))
	require.Equal(t, 3, headsOf(t, s, alice, 1)[0].Unread)
	require.Equal(t, 2, headsOf(t, s, bob, 1)[0].Unread)

	save(t, s, at(15, recall(bob, fromBob)))
	require.Equal(t, 2, headsOf(t, s, alice, 1)[0].Unread)

	save(t, s, at(16, read(alice, aliceBob, 12)))
	head := headsOf(t, s, alice, 1)[0]
	require.Equal(t, 1, head.Unread)
	require.EqualValues(t, 12, head.ReadSeq)
	require.Equal(t, 2, headsOf(t, s, bob, 1)[0].Unread, "the mark is alice's alone")

	save(t, s, at(17, read(alice, aliceBob, 14)))
	require.Zero(t, headsOf(t, s, alice, 1)[0].Unread)
}

func groupHead(t *testing.T, s Store) {
	save(t, s, at(10, created(club, alice, bob)), at(11, inGroup(alice, club, "before")), at(12, joined(club, carol)))
	head := headsOf(t, s, carol, 1)[0]
	require.Nil(t, head.Last)
	require.Zero(t, head.Unread, "what was said before is not to be read")

	seen := at(13, inGroup(alice, club, "during"))
	save(t, s, seen, at(14, left(club, carol)), at(15, inGroup(alice, club, "away")), at(16, joined(club, carol)))
	head = headsOf(t, s, carol, 1)[0]
	require.NotNil(t, head.Last, "what was seen in an earlier stay")
	require.Equal(t, stored(seen), *head.Last)

	again := at(17, inGroup(bob, club, "again"))
	save(t, s, again)
	head = headsOf(t, s, carol, 1)[0]
	require.Equal(t, stored(again), *head.Last)
	require.Equal(t, 2, head.Unread, "of all stays, not of the time between them")
	require.Equal(t, 1, headsOf(t, s, alice, 1)[0].Unread)
	require.Equal(t, 3, headsOf(t, s, bob, 1)[0].Unread)

	save(t, s, at(18, read(carol, clubRoom, 13)))
	require.Equal(t, 1, headsOf(t, s, carol, 1)[0].Unread)
	save(t, s, at(19, read(carol, clubRoom, 17)))
	require.Zero(t, headsOf(t, s, carol, 1)[0].Unread)
}

// pagesOfHeads reads all pages of a list in which 12 conversations were active in 4 different seconds. Between any two pages
// a conversation that was listed becomes active again.
func pagesOfHeads(t *testing.T, s Store) {
	var log []events.Record
	var want []string
	for i := range int64(12) {
		r := at(100+i, direct(alice, 2000+i, "hi"))
		r.Message.Timestamp = started + i/3
		log = append(log, r)
		want = append(want, r.Message.Conversation)
	}
	save(t, s, log...)
	slices.Reverse(want) // within a second the names ascend with the users
	for limit := 1; limit <= 13; limit++ {
		var got []string
		var behind store.Place
		for more := true; more; {
			var heads []store.Head
			var err error
			heads, more, err = s.Heads(t.Context(), alice, behind, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(heads), limit)
			require.Equal(t, len(got)+len(heads) < len(want), more)
			got = append(got, names(heads)...)
			behind = heads[len(heads)-1].Place
		}
		require.Equal(t, want, got, "limit %d", limit)
	}

	first, more, err := s.Heads(t.Context(), alice, store.Place{}, 5)
	require.NoError(t, err)
	require.True(t, more)
	save(t, s, at(200, direct(alice, 2011, "again")), at(201, direct(alice, 3000, "new")), at(202, edit(alice, log[0], "edited")))
	rest, more, err := s.Heads(t.Context(), alice, first[4].Place, 50)
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, want[5:], names(rest), "what becomes active moves to the front and shifts nothing")
}

func headsOf(t *testing.T, s Store, user int64, limit int) []store.Head {
	t.Helper()
	heads, _, err := s.Heads(t.Context(), user, store.Place{}, limit)
	require.NoError(t, err)
	return heads
}

func names(heads []store.Head) []string {
	var names []string
	for _, h := range heads {
		names = append(names, h.Conversation)
	}
	return names
}

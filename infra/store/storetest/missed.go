package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func missedTests() []test {
	return []test{
		{"everything in direct conversations is missed", func(t *testing.T, s Store) {
			one, two := at(10, direct(alice, bob, "one")), at(11, direct(bob, alice, "two"))
			other := at(10, direct(bob, carol, "not hers"))
			save(t, s, one, two, other)
			whole := everything(aliceBob, "u:1002:1003")
			requireMissed(t, s, alice, whole, one, two)
			requireMissed(t, s, bob, whole, one, two, other)
			requireMissed(t, s, carol, whole, other)
			requireMissed(t, s, 9999, whole)
		}},
		{"a range begins after its one end and includes the other", func(t *testing.T, s Store) {
			one, two, three := at(10, direct(alice, bob, "one")), at(20, direct(bob, alice, "two")), at(30, direct(bob, alice, "three"))
			save(t, s, one, two, three)
			requireMissed(t, s, alice, []events.Range{upTo(aliceBob, 10, 20)}, two)
			requireMissed(t, s, alice, []events.Range{upTo(aliceBob, 9, 10)}, one)
			requireMissed(t, s, alice, []events.Range{upTo(aliceBob, 11, 29)}, two)
			requireMissed(t, s, alice, []events.Range{upTo(aliceBob, 30, 40)})
			requireMissed(t, s, alice, []events.Range{upTo(aliceBob, 20, 20)})
			requireMissed(t, s, alice, nil)
		}},
		{"other partitions than those asked for are left out", func(t *testing.T, s Store) {
			one, two := at(10, direct(alice, bob, "one")), at(10, direct(alice, carol, "two"))
			require.NotEqual(t, one.Partition, two.Partition)
			save(t, s, one, two)
			requireMissed(t, s, alice, everything(aliceBob), one)
			requireMissed(t, s, alice, everything(aliceCarol), two)
			requireMissed(t, s, alice, []events.Range{upTo(aliceBob, 10, 99), upTo(aliceCarol, 9, 99)}, two)
		}},
		{"an edit is missed with the message as it is now", func(t *testing.T, s Store) {
			one := at(10, direct(alice, bob, "one"))
			first, second := at(11, edit(alice, one, "uno")), at(12, edit(alice, one, "un"))
			save(t, s, one, first, second)
			first.Content = "un"
			requireMissed(t, s, bob, everything(aliceBob), withContent(one, "un"), first, second)
			requireMissed(t, s, bob, []events.Range{upTo(aliceBob, 11, 99)}, second)
		}},
		{"a recalled message is missed without content and without its edits", func(t *testing.T, s Store) {
			one, two := at(10, direct(alice, bob, "one")), at(13, direct(alice, bob, "two"))
			recalled := at(12, recall(alice, one))
			save(t, s, one, at(11, edit(alice, one, "uno")), recalled, two)
			requireMissed(t, s, bob, everything(aliceBob), withdrawn(one), recalled, two)
		}},
		{"a change names the message's position after it moved", func(t *testing.T, s Store) {
			repeat := at(12, direct(alice, bob, "one"))
			change := at(13, edit(alice, repeat, "uno"))
			first := at(10, direct(alice, bob, "one"))
			saveEach(t, s, repeat, change, first)
			change.MessageSeq = 10
			requireMissed(t, s, bob, everything(aliceBob), withContent(first, "uno"), change)
		}},
		{"repeats, read marks and unknown types are not missed", func(t *testing.T, s Store) {
			one := at(10, direct(alice, bob, "one"))
			save(t, s, one, at(11, direct(alice, bob, "one")), at(12, read(bob, aliceBob, 10)),
				at(13, events.Event{Type: "message_pinned", Conversation: aliceBob}))
			requireMissed(t, s, alice, everything(aliceBob), one)
		}},
		{"of a group each stay is missed, both its ends included", missedStays},
		{"of a dissolved group the end is missed and nothing after it", func(t *testing.T, s Store) {
			begin, end := at(10, created(club, alice, bob)), at(12, dissolved(club, alice))
			save(t, s, begin, at(11, left(club, bob)), end, at(13, authorized(inGroup(alice, club, "nobody there"))))
			requireMissed(t, s, alice, everything(clubRoom), begin, at(11, left(club, bob)), end)
			requireMissed(t, s, bob, everything(clubRoom), begin, at(11, left(club, bob)))
		}},
		{"changes of membership without effect are not missed", func(t *testing.T, s Store) {
			begin := at(10, created(club, alice, bob))
			save(t, s, begin, at(11, created(club, alice, bob)), at(12, joined(club, bob)), at(13, left(club, carol)))
			requireMissed(t, s, alice, everything(clubRoom), begin)
		}},
		{"no more than the limit is answered, ascending within each partition", missedLimit},
	}
}

func missedStays(t *testing.T, s Store) {
	log := []events.Record{
		at(10, created(club, alice, bob)),
		at(11, inGroup(alice, club, "before")),
		at(20, joined(club, carol)),
		at(21, inGroup(alice, club, "first stay")),
		at(22, left(club, bob)),
		at(30, left(club, carol)),
		at(31, inGroup(alice, club, "away")),
		at(32, joined(club, bob)),
		at(40, joined(club, carol)),
		at(41, inGroup(carol, club, "second stay")),
	}
	save(t, s, log...)
	requireMissed(t, s, alice, everything(clubRoom), log...)
	requireMissed(t, s, bob, everything(clubRoom), slices.Concat(log[:5], log[7:])...)
	requireMissed(t, s, carol, everything(clubRoom), slices.Concat(log[2:6], log[8:])...)
	requireMissed(t, s, carol, []events.Range{upTo(clubRoom, 20, 31)}, log[3:6]...)
	requireMissed(t, s, carol, []events.Range{upTo(clubRoom, 30, 39)})
	requireMissed(t, s, carol, []events.Range{upTo(clubRoom, 29, 40)}, log[5], log[8])
}

func missedLimit(t *testing.T, s Store) {
	begin := at(1, created(club, alice, bob))
	want := []events.Record{begin}
	for i := int64(10); i < 20; i++ {
		want = append(want, at(2*i, direct(bob, alice, fmt.Sprint(i))), at(2*i+1, inGroup(bob, club, fmt.Sprint(i))))
	}
	save(t, s, want...)
	whole := everything(aliceBob, clubRoom)
	requireMissed(t, s, alice, whole, want...)
	for _, limit := range []int{0, 1, 7, len(want) - 1, len(want)} {
		got, err := s.Missed(t.Context(), alice, whole, limit)
		require.NoError(t, err)
		require.Len(t, got, limit)
		last := make(map[int32]int64)
		for _, r := range got {
			require.Greater(t, r.Seq, last[r.Partition])
			last[r.Partition] = r.Seq
			require.Contains(t, want, r)
		}
	}
}

// everything returns the whole of the conversations' partitions.
func everything(conversations ...string) []events.Range {
	var ranges []events.Range
	for _, c := range conversations {
		if r := upTo(c, 0, events.MaxID); !slices.Contains(ranges, r) {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// requireMissed requires these records and no others, ascending within each partition.
func requireMissed(t *testing.T, s Store, user int64, ranges []events.Range, want ...events.Record) {
	t.Helper()
	got, err := s.Missed(t.Context(), user, ranges, 1000)
	require.NoError(t, err)
	require.Equal(t, perPartition(want), perPartition(got))
}

func perPartition(records []events.Record) map[int32][]events.Record {
	by := make(map[int32][]events.Record)
	for _, r := range records {
		by[r.Partition] = append(by[r.Partition], r)
	}
	return by
}

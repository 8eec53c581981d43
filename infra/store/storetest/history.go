package storetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func historyTests() []test {
	return []test{
		{"a page answers its part of the conversation", pages},
		{"pages put together are the whole conversation", wholeByPages},
		{"a conversation that does not exist is empty", func(t *testing.T, s Store) {
			requireHistory(t, s, aliceBob)
			requireHistory(t, s, "no conversation")
		}},
		{"conversations of one partition are kept apart", func(t *testing.T, s Store) {
			first, second := at(7, direct(alice, bob, "one")), at(8, direct(alice, carol, "two"))
			second.Partition = first.Partition
			save(t, s, first, second)
			requireHistory(t, s, aliceBob, stored(first))
			requireHistory(t, s, aliceCarol, stored(second))
		}},
		{"changes take no room on a page", func(t *testing.T, s Store) {
			first := at(1, direct(alice, bob, "one"))
			save(t, s, first, at(2, edit(alice, first, "uno")), at(3, edit(alice, first, "un")), at(4, direct(bob, alice, "two")))
			messages, more, err := s.History(t.Context(), aliceBob, store.Page{Limit: 2})
			require.NoError(t, err)
			require.False(t, more)
			require.Equal(t, []int64{1, 4}, seqsOf(messages))
		}},
	}
}

// pages reads a conversation with messages at 10, 20, … 100.
func pages(t *testing.T, s Store) {
	saveNumbered(t, s, 10)
	for _, c := range []struct {
		name string
		page store.Page
		want []int64
		more bool
	}{
		{"the newest", store.Page{Newest: true, Limit: 3}, []int64{80, 90, 100}, true},
		{"the newest, all of them", store.Page{Newest: true, Limit: 10}, []int64{10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, false},
		{"the oldest", store.Page{Limit: 3}, []int64{10, 20, 30}, true},
		{"the oldest, more than there are", store.Page{Limit: 11}, []int64{10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, false},
		{"before a message", store.Page{Newest: true, Before: 50, Limit: 2}, []int64{30, 40}, true},
		{"before a position without one", store.Page{Newest: true, Before: 51, Limit: 2}, []int64{40, 50}, true},
		{"before, to the beginning", store.Page{Newest: true, Before: 30, Limit: 2}, []int64{10, 20}, false},
		{"before the first", store.Page{Newest: true, Before: 10, Limit: 2}, nil, false},
		{"after a message", store.Page{After: 50, Limit: 2}, []int64{60, 70}, true},
		{"after a position without one", store.Page{After: 49, Limit: 2}, []int64{50, 60}, true},
		{"after, to the end", store.Page{After: 80, Limit: 2}, []int64{90, 100}, false},
		{"after the last", store.Page{After: 100, Limit: 2}, nil, false},
		{"the lowest between", store.Page{After: 20, Before: 60, Limit: 2}, []int64{30, 40}, true},
		{"the highest between", store.Page{After: 20, Before: 60, Newest: true, Limit: 2}, []int64{40, 50}, true},
		{"all between", store.Page{After: 20, Before: 60, Newest: true, Limit: 3}, []int64{30, 40, 50}, false},
		{"nothing between", store.Page{After: 20, Before: 30, Limit: 3}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, more, err := s.History(t.Context(), aliceBob, c.page)
			require.NoError(t, err)
			require.Equal(t, c.want, seqsOf(got))
			require.Equal(t, c.more, more)
		})
	}
}

func wholeByPages(t *testing.T, s Store) {
	want := saveNumbered(t, s, 25)
	for limit := 1; limit <= 26; limit += 5 {
		var down, up []int64
		for page := (store.Page{Newest: true, Limit: limit}); ; page.Before = down[0] {
			got, more, err := s.History(t.Context(), aliceBob, page)
			require.NoError(t, err)
			down = append(seqsOf(got), down...)
			if !more {
				break
			}
		}
		for page := (store.Page{Limit: limit}); ; page.After = up[len(up)-1] {
			got, more, err := s.History(t.Context(), aliceBob, page)
			require.NoError(t, err)
			up = append(up, seqsOf(got)...)
			if !more {
				break
			}
		}
		require.Equal(t, want, down, "newest first, by %d", limit)
		require.Equal(t, want, up, "oldest first, by %d", limit)
	}
}

// saveNumbered saves messages at 10, 20, … and returns these positions.
func saveNumbered(t *testing.T, s Store, n int64) []int64 {
	var records []events.Record
	var seqs []int64
	for i := int64(1); i <= n; i++ {
		records = append(records, at(10*i, direct(alice, bob, fmt.Sprint(i))))
		seqs = append(seqs, 10*i)
	}
	save(t, s, records...)
	return seqs
}

func seqsOf(messages []store.StoredMessage) []int64 {
	var seqs []int64
	for _, m := range messages {
		seqs = append(seqs, m.Seq)
	}
	return seqs
}

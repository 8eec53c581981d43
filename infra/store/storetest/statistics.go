package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// countedAt is when the tests count, three seconds after the first message.
var countedAt = time.Unix(started+3, 0) //nolint:gochecknoglobals // a time cannot be a constant

func statisticTests() []test {
	minute, hour := store.Spans()[0], store.Spans()[1]
	begin := started - started%60
	next := begin + 60
	// said returns a message at the second after the start.
	said := func(seq int64, from, to int64, second int64) events.Record {
		r := at(seq, direct(from, to, fmt.Sprint(seq)))
		r.Message.Timestamp = started + second
		return r
	}
	count := func(t *testing.T, s Store, records ...events.Record) {
		t.Helper()
		require.NoError(t, s.CountMessages(t.Context(), "analytics", records, countedAt))
	}
	want := func(t *testing.T, s Store, span store.Span, buckets ...store.Bucket) {
		t.Helper()
		got, err := s.Buckets(t.Context(), "analytics", span, begin-begin%3600)
		require.NoError(t, err)
		require.Equal(t, buckets, got)
	}
	one := func(messages, users, conversations int64, within ...int64) store.Bucket {
		return store.Bucket{Start: begin, Messages: messages, Users: users, Conversations: conversations, Within: [3]int64(within)}
	}
	return []test{
		{"nothing is counted at first", func(t *testing.T, s Store) { want(t, s, minute) }},
		{"messages, users and conversations are counted by bucket", func(t *testing.T, s Store) {
			count(t, s, said(1, alice, bob, 0), said(2, bob, alice, 1), said(3, alice, bob, -100), at(4, recall(alice, said(1, alice, bob, 0))))
			count(t, s, said(1, alice, carol, 2))
			got, err := s.Buckets(t.Context(), "analytics", minute, begin)
			require.NoError(t, err)
			require.Equal(t, []store.Bucket{one(3, 2, 2, 2, 3, 3)}, got)
			all, err := s.Buckets(t.Context(), "analytics", hour, 0)
			require.NoError(t, err)
			require.EqualValues(t, 4, sum(all))
		}},
		{"a message from the future counts now", func(t *testing.T, s Store) {
			count(t, s, said(1, alice, bob, 1000))
			want(t, s, minute, one(1, 1, 1, 1, 1, 1))
		}},
		{"records that come again are counted once", func(t *testing.T, s Store) {
			for range 2 {
				count(t, s, said(1, alice, bob, 0), said(2, bob, alice, 0))
				count(t, s, said(2, bob, alice, 0), said(3, alice, bob, 0))
				count(t, s, said(1, alice, bob, 0))
			}
			want(t, s, minute, one(3, 2, 1, 0, 3, 3))
		}},
		{"a replay at a lower position is counted once", func(t *testing.T, s Store) {
			replay := said(2, bob, alice, 0)
			replay.Replay = true
			last := said(5, bob, alice, 0)
			last.Replay = true
			count(t, s, said(1, alice, bob, 0), said(3, alice, bob, 0))
			for range 2 {
				count(t, s, replay)
				count(t, s, last)
			}
			last.Replay = false
			count(t, s, said(3, alice, bob, 0), said(4, alice, bob, 0), last)
			want(t, s, minute, one(5, 2, 1, 0, 5, 5))
		}},
		{"series are counted independently", func(t *testing.T, s Store) {
			count(t, s, said(1, alice, bob, 0))
			require.NoError(t, s.CountMessages(t.Context(), "analytics-v2", []events.Record{said(1, alice, bob, 0), said(2, alice, bob, 0)}, countedAt))
			want(t, s, minute, one(1, 1, 1, 0, 1, 1))
		}},
		{"conversations are listed by their messages", func(t *testing.T, s Store) {
			count(t, s, said(1, alice, bob, 0), said(2, alice, bob, 0), said(3, alice, bob, 0))
			count(t, s, said(1, alice, carol, 0), said(2, alice, carol, 0))
			count(t, s, said(1, alice, alice, 0))
			busiest, err := s.Busiest(t.Context(), "analytics", minute, begin, 2)
			require.NoError(t, err)
			require.Equal(t, []store.Busy{{Conversation: aliceBob, Messages: 3}, {Conversation: aliceCarol, Messages: 2}}, busiest)
			busiest, err = s.Busiest(t.Context(), "analytics", minute, next, 2)
			require.NoError(t, err)
			require.Empty(t, busiest)
		}},
		{"buckets are kept for their time and then neither kept nor made", func(t *testing.T, s Store) {
			count(t, s, said(1, alice, bob, 0))
			later := countedAt.Add(minute.Keep + time.Minute)
			require.NoError(t, s.DropBuckets(t.Context(), "analytics", countedAt))
			want(t, s, minute, one(1, 1, 1, 0, 1, 1))
			require.NoError(t, s.DropBuckets(t.Context(), "analytics", later))
			want(t, s, minute)
			require.NoError(t, s.CountMessages(t.Context(), "analytics", []events.Record{said(2, bob, alice, 0)}, later))
			want(t, s, minute)
			all, err := s.Buckets(t.Context(), "analytics", hour, 0)
			require.NoError(t, err)
			require.EqualValues(t, 2, sum(all))
			require.EqualValues(t, 2, all[0].Users)
			busiest, err := s.Busiest(t.Context(), "analytics", minute, 0, 10)
			require.NoError(t, err)
			require.Empty(t, busiest)
		}},
	}
}

func sum(buckets []store.Bucket) (messages int64) {
	for _, b := range buckets {
		messages += b.Messages
	}
	return messages
}

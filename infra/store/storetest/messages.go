package storetest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func messageTests() []test {
	return []test{
		{"a direct message is stored with all it has", func(t *testing.T, s Store) {
			r := at(7, direct(bob, alice, "hello"))
			r.Message.MessageType = 105
			save(t, s, r)
			requireHistory(t, s, aliceBob, stored(r))
			got, err := s.Message(t.Context(), aliceBob, r.Message.MessageID)
			require.NoError(t, err)
			require.Equal(t, stored(r), got)
		}},
		{"a group message is stored", func(t *testing.T, s Store) {
			r := at(7, inGroup(bob, club, "hello"))
			save(t, s, at(6, created(club, alice, bob)), r)
			requireHistory(t, s, clubRoom, stored(r))
		}},
		{"a message to oneself is stored once", func(t *testing.T, s Store) {
			r := at(7, direct(alice, alice, "note"))
			save(t, s, r)
			requireHistory(t, s, "u:1001:1001", stored(r))
			require.Len(t, headsOf(t, s, alice, 10), 1)
		}},
		{"ids and contents of any form come back as they were", anyForm},
		{"the timestamps of those messages are known that are stored", func(t *testing.T, s Store) {
			own, foreign := at(7, direct(alice, bob, "hello")), at(8, direct(alice, bob, "hi"))
			foreign.Message.MessageID = `it's "one"`
			save(t, s, own, foreign, at(9, direct(alice, bob, "other")))
			key := func(id string) store.MessageKey { return store.MessageKey{Conversation: aliceBob, MessageID: id} }
			got, err := s.SentAt(t.Context(), []store.MessageKey{
				key(own.Message.MessageID), key(foreign.Message.MessageID), key("unknown"),
			})
			require.NoError(t, err)
			require.Equal(t, map[store.MessageKey]int64{
				key(own.Message.MessageID): started + 7, key(foreign.Message.MessageID): started + 8,
			}, got)
			got, err = s.SentAt(t.Context(), nil)
			require.NoError(t, err)
			require.Empty(t, got)
		}},
		{"an unknown message is not found", func(t *testing.T, s Store) {
			r := at(7, direct(alice, bob, "hello"))
			save(t, s, r)
			for conversation, messageID := range map[string]string{
				aliceBob: "another", aliceCarol: r.Message.MessageID, "no conversation": r.Message.MessageID,
			} {
				_, err := s.Message(t.Context(), conversation, messageID)
				require.ErrorIs(t, err, store.ErrNotFound)
			}
		}},
		{"a record delivered again changes nothing", func(t *testing.T, s Store) {
			first, second := at(7, direct(alice, bob, "one")), at(8, direct(bob, alice, "two"))
			save(t, s, first, second)
			save(t, s, first, second)
			save(t, s, first)
			requireHistory(t, s, aliceBob, stored(first), stored(second))
		}},
		{"of repeats in one batch the first is kept", func(t *testing.T, s Store) {
			first := at(7, direct(alice, bob, "one"))
			save(t, s, first, at(8, direct(alice, bob, "one")), at(9, direct(alice, bob, "one")))
			requireHistory(t, s, aliceBob, stored(first))
		}},
		{"a repeat in a later batch is not stored", func(t *testing.T, s Store) {
			first := at(7, direct(alice, bob, "one"))
			repeat := withContent(at(9, direct(alice, bob, "one")), "changed")
			saveEach(t, s, first, repeat)
			requireHistory(t, s, aliceBob, stored(first))
		}},
		{"a lower position that comes later takes the message", func(t *testing.T, s Store) {
			repeat := withContent(at(9, direct(alice, bob, "one")), "changed")
			between := at(8, direct(bob, alice, "between"))
			first := at(7, direct(alice, bob, "one"))
			saveEach(t, s, between, repeat, first, repeat)
			requireHistory(t, s, aliceBob, stored(first), stored(between))
			got, err := s.Message(t.Context(), aliceBob, first.Message.MessageID)
			require.NoError(t, err)
			require.Equal(t, stored(first), got)
			require.EqualValues(t, 8, headsOf(t, s, alice, 1)[0].Last.Seq)
		}},
		{"a record that cannot be stored is refused for good and alone", refusedAlone},
		{"an id that a message of another conversation has is refused for good", func(t *testing.T, s Store) {
			first, second := at(7, direct(alice, bob, "one")), at(7, direct(alice, carol, "two"))
			second.Message.MessageID = first.Message.MessageID
			save(t, s, first)
			results := s.SaveBatch(t.Context(), []events.Record{second})
			require.True(t, events.IsPermanent(results[0]), "got %v", results[0])
			requireHistory(t, s, aliceBob, stored(first))
			requireHistory(t, s, aliceCarol)
			require.Empty(t, headsOf(t, s, carol, 10))
		}},
		{"an unknown type changes nothing", func(t *testing.T, s Store) {
			save(t, s, at(7, events.Event{Type: "message_pinned", Conversation: aliceBob}))
			requireHistory(t, s, aliceBob)
		}},
		{"an empty batch is stored", func(t *testing.T, s Store) { save(t, s) }},
	}
}

func anyForm(t *testing.T, s Store) {
	own := events.MessageID(1, "", "")
	var want []store.StoredMessage
	for i, form := range []string{
		own, own[:21] + "B", own[:21], "0123456789ABCDEF", strings.Repeat("x", 64), "ü\x00\n", "'", "1", "-1e3",
	} {
		r := at(int64(i+1), direct(alice, bob, ""))
		r.Message.MessageID, r.Message.ClientMsgID, r.Message.Content = form, form, form
		r.EventID = form
		save(t, s, r)
		want = append(want, stored(r))
		got, err := s.Message(t.Context(), aliceBob, form)
		require.NoError(t, err)
		require.Equal(t, stored(r), got)
	}
	requireHistory(t, s, aliceBob, want...)
}

func refusedAlone(t *testing.T, s Store) {
	before, after := at(7, direct(alice, bob, "before")), at(10, direct(alice, bob, "after"))
	empty := at(8, events.Event{Type: events.NewMessage, Conversation: aliceBob})
	nameless := at(9, direct(alice, bob, "nameless"))
	nameless.Message.Conversation = "nowhere"
	results := s.SaveBatch(t.Context(), []events.Record{before, empty, nameless, after})
	require.Len(t, results, 4)
	require.NoError(t, results[0])
	require.True(t, events.IsPermanent(results[1]), "got %v", results[1])
	require.True(t, events.IsPermanent(results[2]), "got %v", results[2])
	require.NoError(t, results[3])
	requireHistory(t, s, aliceBob, stored(before), stored(after))
}

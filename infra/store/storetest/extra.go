package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// extraTests are about what only some messages have: extra, reply_to and mentions.
func extraTests() []test {
	const red, blue = `{"color":"red", "size":1.50}`, `{}`
	full := func(e events.Event) events.Event {
		e.Message.Extra, e.Message.ReplyTo, e.Message.Mentions = events.Extra(red), events.MessageID(1, "", ""), []int64{bob, carol}
		return e
	}
	editTo := func(extra events.Extra, of events.Record) events.Event {
		e := edit(of.Message.From, of, "uno")
		e.Extra = extra
		return e
	}
	edited := func(of events.Record, extra events.Extra, seq int64) store.StoredMessage {
		m := stored(withContent(of, "uno"))
		m.Extra, m.EditedAt = extra, started+seq
		return m
	}
	first := at(10, full(direct(alice, bob, "one")))
	return []test{
		{"a message is stored with all that it has", func(t *testing.T, s Store) {
			foreign := at(11, direct(alice, bob, "two"))
			foreign.Message.ReplyTo = "it's another"
			save(t, s, first, foreign)
			requireHistory(t, s, aliceBob, stored(first), stored(foreign))
			requireMissed(t, s, bob, everything(aliceBob), first, foreign)
		}},
		{"an edit replaces extra and leaves the rest", func(t *testing.T, s Store) {
			saveEach(t, s, first, at(11, editTo(events.Extra(blue), first)), first)
			requireHistory(t, s, aliceBob, edited(first, events.Extra(blue), 11))
		}},
		{"an edit without extra removes it", func(t *testing.T, s Store) {
			save(t, s, first, at(11, editTo(nil, first)))
			requireHistory(t, s, aliceBob, edited(first, nil, 11))
		}},
		{"an edit brings extra to a message that had none", func(t *testing.T, s Store) {
			plain := at(10, direct(alice, bob, "one"))
			change := at(11, editTo(events.Extra(blue), plain))
			save(t, s, plain, change)
			requireHistory(t, s, aliceBob, edited(plain, events.Extra(blue), 11))
			now := withContent(plain, "uno")
			now.Message.Extra = events.Extra(blue)
			requireMissed(t, s, bob, everything(aliceBob), now, change)
		}},
		{"an older edit that comes later leaves extra alone", func(t *testing.T, s Store) {
			saveEach(t, s, first, at(12, editTo(events.Extra(blue), first)), at(11, editTo(events.Extra(red), first)))
			requireHistory(t, s, aliceBob, edited(first, events.Extra(blue), 12))
		}},
		{"a message that moves to a lower position has what it has there, and the edits", func(t *testing.T, s Store) {
			lower := at(9, direct(alice, bob, "one"))
			lower.Message.ReplyTo = "another"
			save(t, s, first)
			save(t, s, lower)
			requireHistory(t, s, aliceBob, stored(lower))
			save(t, s, at(11, editTo(events.Extra(blue), lower)))
			lowest := at(8, full(direct(alice, bob, "one")))
			save(t, s, lowest)
			requireHistory(t, s, aliceBob, edited(lowest, events.Extra(blue), 11))
		}},
		{"a recalled message shows nothing of it", func(t *testing.T, s Store) {
			save(t, s, first, at(11, recall(alice, first)))
			got, err := s.Message(t.Context(), aliceBob, first.Message.MessageID)
			require.NoError(t, err)
			require.Empty(t, got.Extra)
			require.Empty(t, got.ReplyTo)
			require.Empty(t, got.Mentions)
		}},
		{"who left sees what a message had then", func(t *testing.T, s Store) {
			one, two := at(11, full(inGroup(alice, club, "one"))), at(12, full(inGroup(alice, club, "two")))
			save(t, s, at(10, created(club, alice, carol)), one, two, at(13, editTo(events.Extra(blue), one)), at(14, left(club, carol)),
				at(15, editTo(nil, one)), at(16, recall(alice, two)))
			page, _, err := s.History(t.Context(), clubRoom, store.Page{Limit: 9, AsOf: 14, Reader: carol})
			require.NoError(t, err)
			require.Equal(t, []store.StoredMessage{edited(one, events.Extra(blue), 13), stored(two)}, page)
		}},
	}
}

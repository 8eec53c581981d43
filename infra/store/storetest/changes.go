package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func changeTests() []test {
	first := at(10, direct(alice, bob, "one"))
	edited := func(text string, seq int64) store.StoredMessage {
		m := stored(withContent(first, text))
		m.EditedAt = started + seq
		return m
	}
	// Each case saves the message and then the changes, first in one batch and then each in a batch of its own.
	var tests []test
	for _, c := range []struct {
		name    string
		changes []events.Record
		want    store.StoredMessage
	}{
		{"an edit replaces the content", []events.Record{at(11, edit(alice, first, "uno"))}, edited("uno", 11)},
		{
			"of two edits the newer holds",
			[]events.Record{at(11, edit(alice, first, "uno")), at(12, edit(alice, first, "un"))},
			edited("un", 12),
		},
		{
			"an older edit that comes later has no effect",
			[]events.Record{at(12, edit(alice, first, "un")), at(11, edit(alice, first, "uno"))},
			edited("un", 12),
		},
		{
			"an edit delivered again after a newer one has no effect",
			[]events.Record{at(11, edit(alice, first, "uno")), at(12, edit(alice, first, "un")), at(11, edit(alice, first, "uno"))},
			edited("un", 12),
		},
		{
			"an edit that is repeated later does not undo what came between",
			[]events.Record{at(11, edit(alice, first, "uno")), at(12, edit(alice, first, "un")), repeatOf(at(11, edit(alice, first, "uno")), 13)},
			edited("un", 12),
		},
		{
			"an edit to what the message was before is another edit",
			[]events.Record{at(11, edit(alice, first, "uno")), at(12, edit(alice, first, "un")), at(13, edit(alice, first, "uno"))},
			edited("uno", 13),
		},
		{"a recall by moderation wipes the content", []events.Record{at(11, moderated(first))}, stored(withdrawn(first))},
		{"a recall wipes the content", []events.Record{at(11, recall(alice, first))}, stored(withdrawn(first))},
		{
			"a recall holds against a later edit",
			[]events.Record{at(11, recall(alice, first)), at(12, edit(alice, first, "uno"))},
			stored(withdrawn(first)),
		},
		{
			"a recall holds against an edit that was there before it",
			[]events.Record{at(12, recall(alice, first)), at(11, edit(alice, first, "uno")), at(13, recall(alice, first))},
			stored(withdrawn(first)),
		},
		{
			"a message delivered again after a recall stays recalled",
			[]events.Record{at(11, recall(alice, first)), first},
			stored(withdrawn(first)),
		},
		{
			"a message delivered again after an edit stays edited",
			[]events.Record{at(11, edit(alice, first, "uno")), first},
			edited("uno", 11),
		},
	} {
		records := append([]events.Record{first}, c.changes...)
		tests = append(tests, test{c.name, func(t *testing.T, s Store) {
			save(t, s, records...)
			requireHistory(t, s, aliceBob, c.want)
		}}, test{c.name + ", one by one", func(t *testing.T, s Store) {
			saveEach(t, s, records...)
			requireHistory(t, s, aliceBob, c.want)
		}})
	}
	return append(tests, test{"a change is known by its event id once it has had its effect", func(t *testing.T, s Store) {
		made, void := at(11, edit(alice, first, "uno")), at(13, edit(alice, first, "un"))
		save(t, s, first, made, at(12, recall(alice, first)), void)
		for id, want := range map[string]int64{made.EventID: made.Seq, void.EventID: 0, "": 0} {
			seq, err := s.ChangeSeq(t.Context(), aliceBob, id)
			require.NoError(t, err)
			require.Equal(t, want, seq)
		}
		seq, err := s.ChangeSeq(t.Context(), aliceCarol, made.EventID)
		require.NoError(t, err)
		require.Zero(t, seq)
	}}, test{"a recall wipes an edited message", func(t *testing.T, s Store) {
		save(t, s, first, at(11, edit(alice, first, "uno")), at(12, recall(alice, first)))
		got, err := s.Message(t.Context(), aliceBob, first.Message.MessageID)
		require.NoError(t, err)
		require.True(t, got.Recalled)
		require.Empty(t, got.Content)
	}}, test{"a recall overtaken by an edit wipes the message", func(t *testing.T, s Store) {
		saveEach(t, s, first, at(12, edit(alice, first, "uno")), at(11, recall(alice, first)))
		got, err := s.Message(t.Context(), aliceBob, first.Message.MessageID)
		require.NoError(t, err)
		require.True(t, got.Recalled)
		require.Empty(t, got.Content)
	}}, test{"a change goes with a message that moves to a lower position", func(t *testing.T, s Store) {
		repeat := at(12, direct(alice, bob, "one"))
		saveEach(t, s, repeat, at(13, edit(alice, repeat, "uno")), first)
		requireHistory(t, s, aliceBob, edited("uno", 13))
		saveEach(t, s, at(14, recall(alice, first)), at(9, direct(alice, bob, "one")))
		got, err := s.Message(t.Context(), aliceBob, first.Message.MessageID)
		require.NoError(t, err)
		require.True(t, got.Recalled)
		require.Empty(t, got.Content)
		require.EqualValues(t, 9, got.Seq)
	}})
}

package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func versionTests() []test {
	return []test{
		{"who left sees messages as they stood, and its own as they are", func(t *testing.T, s Store) {
			save(t, s, changedMeanwhile().log...)
			requireAsTheyStood(t, s)
		}},
		{"who left sees messages as they stood, also where all is delivered again", func(t *testing.T, s Store) {
			log := changedMeanwhile().log
			saveEach(t, s, log...)
			saveEach(t, s, log...)
			save(t, s, log...)
			requireAsTheyStood(t, s)
		}},
		{"a stay is missed with messages as they stood at its end, and without changes of others", func(t *testing.T, s Store) {
			c := changedMeanwhile()
			save(t, s, c.log...)
			edited := func(at int, text string) events.Record {
				r := c.log[at]
				r.Content = text
				return r
			}
			requireMissed(t, s, carol, everything(clubRoom),
				c.log[0], withContent(c.one, "uno"), c.two, withdrawn(c.own), edited(4, "uno"), c.log[5],
				c.log[9], withContent(c.four, "vier"), edited(12, "vier"))
			requireMissed(t, s, carol, []events.Range{upTo(clubRoom, 30, 99)}, withContent(c.four, "vier"), edited(12, "vier"))
			requireMissed(t, s, alice, []events.Range{upTo(clubRoom, 29, 99)},
				c.log[9], withContent(c.four, "vier"), edited(12, "vier"), c.log[13])
		}},
		{"the limit counts what the user is told of alone", func(t *testing.T, s Store) {
			before := at(11, inGroup(alice, club, "before"))
			log := []events.Record{at(10, created(club, alice)), before, at(12, joined(club, carol))}
			for i := range int64(20) {
				log = append(log, at(20+i, edit(alice, before, "again")))
			}
			last := at(50, inGroup(alice, club, "last"))
			change := at(51, edit(alice, last, "the last"))
			save(t, s, append(log, last, change)...)
			missed, err := s.Missed(t.Context(), carol, []events.Range{upTo(clubRoom, 12, 99)}, 2)
			require.NoError(t, err)
			require.Equal(t, []events.Record{withContent(last, "the last"), change}, missed)
		}},
		{"a list shows the last message of an earlier stay as it stood", func(t *testing.T, s Store) {
			last := at(11, inGroup(alice, club, "one"))
			save(t, s, at(10, created(club, alice, carol)), last, at(12, left(club, carol)), at(13, edit(alice, last, "uno")),
				at(14, joined(club, carol)), at(15, recall(alice, last)))
			want := stored(last)
			require.Equal(t, &want, headsOf(t, s, carol, 1)[0].Last)
			require.True(t, headsOf(t, s, alice, 1)[0].Last.Recalled)
		}},
		{"a recall leaves nothing of a message that nobody took away", func(t *testing.T, s Store) {
			one := at(12, inGroup(alice, club, "one"))
			save(t, s, at(10, created(club, alice, bob, carol)), at(11, left(club, carol)), one, at(13, edit(alice, one, "uno")),
				at(14, recall(alice, one)), at(15, left(club, bob)))
			page, _, err := s.History(t.Context(), clubRoom, store.Page{Limit: 9, AsOf: 12})
			require.NoError(t, err)
			require.Equal(t, []store.StoredMessage{stored(withdrawn(one))}, withoutEdits(page))
		}},
	}
}

// meanwhile is a group whose messages change while carol, who has seen some of them, is away.
type meanwhile struct {
	one, two, own, four events.Record
	log                 []events.Record
}

func changedMeanwhile() meanwhile {
	m := meanwhile{
		one: at(11, inGroup(alice, club, "one")), two: at(12, inGroup(alice, club, "two")),
		own: at(13, inGroup(carol, club, "own")), four: at(32, inGroup(alice, club, "four")),
	}
	m.log = []events.Record{
		at(10, created(club, alice, bob, carol)), m.one, m.two, m.own, at(14, edit(alice, m.one, "uno")),
		at(20, left(club, carol)),
		at(21, edit(alice, m.one, "un")), at(22, recall(alice, m.two)), at(23, recall(carol, m.own)),
		at(30, joined(club, carol)), at(31, edit(alice, m.one, "eins")), m.four, at(33, edit(alice, m.four, "vier")),
		at(34, recall(alice, m.one)),
	}
	return m
}

func requireAsTheyStood(t *testing.T, s Store) {
	t.Helper()
	c := changedMeanwhile()
	edited := func(m events.Record, text string, seq int64) store.StoredMessage {
		of := stored(withContent(m, text))
		of.EditedAt = started + seq
		return of
	}
	for asOf, want := range map[int64][]store.StoredMessage{
		13: {stored(c.one), stored(c.two), stored(withdrawn(c.own))},
		14: {edited(c.one, "uno", 14), stored(c.two), stored(withdrawn(c.own))},
		20: {edited(c.one, "uno", 14), stored(c.two), stored(withdrawn(c.own))},
		21: {edited(c.one, "un", 21), stored(c.two), stored(withdrawn(c.own))},
		33: {edited(c.one, "eins", 31), stored(withdrawn(c.two)), stored(withdrawn(c.own))},
		34: {stored(withdrawn(c.one)), stored(withdrawn(c.two)), stored(withdrawn(c.own))},
		0:  {stored(withdrawn(c.one)), stored(withdrawn(c.two)), stored(withdrawn(c.own))},
	} {
		for _, newest := range []bool{false, true} {
			page, _, err := s.History(t.Context(), clubRoom, store.Page{Before: 20, Newest: newest, Limit: 9, AsOf: asOf, Reader: carol})
			require.NoError(t, err)
			require.Equal(t, want, withoutEdits(page), "as of %d", asOf)
		}
	}
}

// withoutEdits removes the times of edits whose content is gone, because nobody is told of these.
func withoutEdits(page []store.StoredMessage) []store.StoredMessage {
	for i := range page {
		if page[i].Recalled {
			page[i].EditedAt = 0
		}
	}
	return page
}

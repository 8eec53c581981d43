package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func settingTests() []test {
	type settings struct {
		mutedUntil     int64
		pinned, hidden bool
	}
	requireSettings := func(t *testing.T, s Store, user int64, want settings) {
		t.Helper()
		head := headsOf(t, s, user, 1)[0]
		require.Equal(t, want, settings{head.MutedUntil, head.Pinned, head.Hidden})
	}
	setIn := func(user int64, conversation string, of events.Settings) events.Event {
		return events.Event{Type: events.ConversationSettings, Conversation: conversation, User: user, Settings: of}
	}
	pin, unpin := events.Settings{Pinned: new(true)}, events.Settings{Pinned: new(false)}
	hide := events.Settings{Hidden: new(true)}
	first := at(10, direct(alice, bob, "one"))
	return []test{
		{"settings are the user's own and stay until changed", func(t *testing.T, s Store) {
			save(t, s, first, at(11, setIn(bob, aliceBob, events.Settings{MutedUntil: new(started), Pinned: new(true), Hidden: new(true)})),
				at(12, setIn(bob, aliceBob, events.Settings{MutedUntil: new(started + 1)})))
			requireSettings(t, s, alice, settings{})
			requireSettings(t, s, bob, settings{mutedUntil: started + 1, pinned: true, hidden: true})
		}},
		{"the later change holds, in whatever order they come and however often", func(t *testing.T, s Store) {
			log := []events.Record{first, at(12, setIn(bob, aliceBob, pin)), at(11, setIn(bob, aliceBob, unpin))}
			saveEach(t, s, log...)
			requireSettings(t, s, bob, settings{pinned: true})
			save(t, s, log...)
			requireSettings(t, s, bob, settings{pinned: true})
			save(t, s, at(13, setIn(bob, aliceBob, unpin)))
			requireSettings(t, s, bob, settings{})
		}},
		{"a new message ends hiding, and another setting does not renew it", func(t *testing.T, s Store) {
			save(t, s, first, at(11, setIn(bob, aliceBob, hide)), at(12, edit(alice, first, "uno")))
			requireSettings(t, s, bob, settings{hidden: true})
			save(t, s, at(13, direct(bob, alice, "two")), at(14, setIn(bob, aliceBob, pin)))
			requireSettings(t, s, bob, settings{pinned: true})
			save(t, s, at(15, setIn(bob, aliceBob, hide)))
			requireSettings(t, s, bob, settings{pinned: true, hidden: true})
		}},
		{"settings hold that were made before the first message", func(t *testing.T, s Store) {
			saveEach(t, s, at(9, setIn(bob, aliceBob, pin)))
			for _, user := range []int64{alice, bob} {
				require.Empty(t, headsOf(t, s, user, 9))
			}
			saveEach(t, s, first)
			requireSettings(t, s, bob, settings{pinned: true})
			require.Len(t, headsOf(t, s, alice, 9), 1)
		}},
		{"settings are known as they hold after a message", func(t *testing.T, s Store) {
			save(t, s, first, at(11, setIn(bob, aliceBob, hide)), at(12, setIn(bob, aliceBob, events.Settings{MutedUntil: new(started)})))
			for seq, hidden := range map[int64]bool{10: true, 12: false} {
				head, err := s.Settings(t.Context(), bob, aliceBob, seq)
				require.NoError(t, err)
				require.Equal(t, settings{mutedUntil: started, hidden: hidden}, settings{head.MutedUntil, head.Pinned, head.Hidden})
			}
			for _, conversation := range []string{aliceBob, aliceCarol} {
				head, err := s.Settings(t.Context(), alice, conversation, 10)
				require.NoError(t, err)
				require.Equal(t, settings{}, settings{head.MutedUntil, head.Pinned, head.Hidden})
			}
		}},
		{"settings of a group are its members'", func(t *testing.T, s Store) {
			save(t, s, at(10, created(club, alice, bob)), at(11, setIn(alice, clubRoom, pin)), at(12, setIn(carol, clubRoom, pin)))
			requireSettings(t, s, alice, settings{pinned: true})
			requireSettings(t, s, bob, settings{})
			require.Empty(t, headsOf(t, s, carol, 9))
		}},
		{"settings are nothing that anybody has missed", func(t *testing.T, s Store) {
			save(t, s, first, at(11, setIn(bob, aliceBob, pin)))
			requireMissed(t, s, bob, everything(aliceBob), first)
			requireMissed(t, s, alice, everything(aliceBob), first)
		}},
	}
}

package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

func erasureTests() []test {
	setIn := func(user int64, of events.Settings) events.Event {
		return events.Event{Type: events.ConversationSettings, Conversation: aliceBob, User: user, Settings: of}
	}
	return []test{
		{"of an erased user the messages are as if recalled, and all else stays", func(t *testing.T, s Store) {
			c := chatter()
			save(t, s, c.log...)
			require.Equal(t, 2, eraseAll(t, s, alice, 20))
			c.requireErased(t, s)
		}},
		{"what is saved again after an erasure stays empty", func(t *testing.T, s Store) {
			c := chatter()
			save(t, s, c.log...)
			eraseAll(t, s, alice, 20)
			saveEach(t, s, c.log...)
			save(t, s, c.log...)
			c.requireErased(t, s)
		}},
		{"what comes only after an erasure is empty from the start", func(t *testing.T, s Store) {
			c := chatter()
			require.Zero(t, eraseAll(t, s, alice, 20))
			save(t, s, c.log...)
			c.requireErased(t, s)
		}},
		{"an erasure that is repeated finds nothing, and one that lies before it changes nothing", func(t *testing.T, s Store) {
			c := chatter()
			save(t, s, c.log...)
			eraseAll(t, s, alice, 20)
			require.Zero(t, eraseAll(t, s, alice, 20))
			require.Zero(t, eraseAll(t, s, alice, 5))
			saveEach(t, s, c.log...)
			c.requireErased(t, s)
		}},
		{"a user of whom nothing is known can be erased", func(t *testing.T, s Store) {
			require.Zero(t, eraseAll(t, s, carol, 20))
			emptied, next, err := s.EraseIn(t.Context(), carol, aliceCarol, 0)
			require.NoError(t, err)
			require.Zero(t, emptied)
			require.Zero(t, next)
		}},
		{"the lower position decides whether a message is erased, whichever comes first", func(t *testing.T, s Store) {
			lower, upper := at(10, direct(alice, bob, "one")), at(30, direct(alice, bob, "one"))
			other, otherUpper := at(11, direct(alice, bob, "two")), at(31, direct(alice, bob, "two"))
			eraseAll(t, s, alice, 20)
			saveEach(t, s, upper, at(32, edit(alice, upper, "uno")), lower, other, otherUpper)
			page, _, err := s.History(t.Context(), aliceBob, store.Page{Limit: 9})
			require.NoError(t, err)
			require.Equal(t, []store.StoredMessage{stored(withdrawn(lower)), stored(withdrawn(other))}, withoutEdits(page))
		}},
		{"who left sees nothing of what is erased", func(t *testing.T, s Store) {
			one, two := at(11, inGroup(alice, club, "one")), at(12, inGroup(bob, club, "two"))
			log := []events.Record{
				at(10, created(club, bob, alice, carol)), one, two, at(13, left(club, carol)),
				at(14, edit(alice, one, "uno")), at(15, recall(alice, one)), at(16, recall(bob, two)),
			}
			save(t, s, log...)
			for range 2 {
				eraseAll(t, s, alice, 20)
				page, _, err := s.History(t.Context(), clubRoom, store.Page{Limit: 9, AsOf: 13, Reader: carol})
				require.NoError(t, err)
				require.Equal(t, []store.StoredMessage{stored(withdrawn(one)), stored(two)}, withoutEdits(page))
				saveEach(t, s, log...)
			}
		}},
		{"a group loses the name that an erased user has given it", func(t *testing.T, s Store) {
			begin := at(10, created(club, alice, bob))
			erasedBegin := begin
			erasedBegin.Name = ""
			save(t, s, begin)
			eraseAll(t, s, alice, 20)
			requireName(t, s, "")
			saveEach(t, s, begin)
			requireMissed(t, s, bob, everything(clubRoom), erasedBegin)
			second := at(21, renamed(alice, "a later name"))
			save(t, s, second)
			requireName(t, s, "a later name")
			requireMissed(t, s, bob, everything(clubRoom), erasedBegin, second)
			eraseAll(t, s, alice, 30)
			requireName(t, s, "")
			saveEach(t, s, begin, second)
			requireName(t, s, "")
			requireMissed(t, s, bob, everything(clubRoom), erasedBegin)
		}},
		{"a group keeps the name that somebody else has given it since", func(t *testing.T, s Store) {
			begin, last := at(10, created(club, bob, alice)), at(13, renamed(bob, "the last name"))
			log := []events.Record{begin, at(11, role(bob, alice, events.RoleAdmin)), at(12, renamed(alice, "her name")), last}
			save(t, s, log...)
			for range 2 {
				eraseAll(t, s, alice, 20)
				requireName(t, s, "the last name")
				requireMissed(t, s, bob, everything(clubRoom), begin, log[1], last)
				save(t, s, log...)
			}
		}},
		{"what an erased user has set is reset, and what it sets later holds", func(t *testing.T, s Store) {
			pin, hide := events.Settings{Pinned: new(true)}, events.Settings{Hidden: new(true), MutedUntil: new(started)}
			log := []events.Record{at(10, direct(bob, alice, "one")), at(11, setIn(alice, pin)), at(12, setIn(alice, hide)), at(13, setIn(bob, pin))}
			save(t, s, log...)
			eraseAll(t, s, alice, 20)
			for range 2 {
				head := headsOf(t, s, alice, 1)[0]
				require.False(t, head.Pinned || head.Hidden || head.MutedUntil != 0)
				require.True(t, headsOf(t, s, bob, 1)[0].Pinned)
				save(t, s, log...)
			}
			save(t, s, at(21, setIn(alice, pin)))
			require.True(t, headsOf(t, s, alice, 1)[0].Pinned)
		}},
		{"of an erased account no subscription is left, nothing to tell, and not when it was seen", func(t *testing.T, s Store) {
			for _, user := range []int64{alice, bob} {
				require.NoError(t, s.SaveSubscription(t.Context(), user, store.Subscription{Endpoint: fmt.Sprint("https://push.example.com/", user)}))
				require.NoError(t, s.NoteMessages(t.Context(), []store.Note{{User: user, Conversation: aliceBob, MessageID: "m", Seq: 1}}, time.Unix(started, 0)))
				saveUsers(t, s, seen(events.UserOffline, user, 10))
			}
			saveUsers(t, s, seen(events.UserOnline, carol, 11))
			for _, user := range []int64{alice, carol, 100} { // 1001 begins with 100
				require.NoError(t, s.EraseAccount(t.Context(), user))
			}
			browsers, err := s.Subscriptions(t.Context(), []int64{alice, bob})
			require.NoError(t, err)
			require.Len(t, browsers, 1)
			require.Len(t, browsers[bob], 1)
			due, err := s.TakeNotifications(t.Context(), time.Unix(started+1, 0), time.Unix(started+2, 0), 9)
			require.NoError(t, err)
			require.Len(t, due, 1)
			require.Equal(t, bob, due[0].User)
			requireSeen(t, s, seen(events.UserOffline, bob, 10), seen(events.UserOnline, carol, 11))
			left, err := s.LastSeen(t.Context(), []int64{alice})
			require.NoError(t, err)
			require.Empty(t, left)
		}},
		{"a step of an erasure looks at so many messages, and the steps leave nothing out", erasureInSteps},
	}
}

func erasureInSteps(t *testing.T, s Store) {
	const messages = store.ErasedAtOnce + 100
	log := []events.Record{at(1, created(club, alice, bob))}
	for i := range int64(messages) {
		log = append(log, at(10+i, inGroup(alice, club, fmt.Sprint("message ", i))))
	}
	theirs := at(5000, inGroup(bob, club, "not hers"))
	save(t, s, append(log, theirs)...)
	require.NoError(t, s.SaveErasure(t.Context(), alice, positions(6000)))
	emptied, next, err := s.EraseIn(t.Context(), alice, clubRoom, 0)
	require.NoError(t, err)
	require.Equal(t, store.ErasedAtOnce, emptied)
	require.Equal(t, log[store.ErasedAtOnce].Seq, next)
	emptied, next, err = s.EraseIn(t.Context(), alice, clubRoom, next)
	require.NoError(t, err)
	require.Equal(t, messages-store.ErasedAtOnce, emptied)
	require.Zero(t, next)
	page, _, err := s.History(t.Context(), clubRoom, store.Page{Limit: messages + 1})
	require.NoError(t, err)
	require.Len(t, page, messages+1)
	for _, m := range page[:messages] {
		require.True(t, m.Recalled)
		require.Empty(t, m.Content)
	}
	require.Equal(t, stored(theirs), page[messages])
}

// chat is a conversation of alice and bob in which alice has written all that can be written, and once more later.
type chat struct {
	log                   []events.Record
	first, theirs, second events.Record
	later                 events.Record
}

func chatter() chat {
	full := func(e events.Event) events.Event {
		e.Message.Extra, e.Message.ReplyTo, e.Message.Mentions = events.Extra(`{"a":1}`), events.MessageID(1, "", ""), []int64{bob}
		return e
	}
	c := chat{
		first: at(10, full(direct(alice, bob, "one"))), theirs: at(11, full(direct(bob, alice, "two"))),
		second: at(12, full(direct(alice, bob, "three"))), later: at(21, full(direct(alice, bob, "four"))),
	}
	c.log = []events.Record{
		c.first, c.theirs, c.second, at(13, edit(alice, c.first, "uno")), at(14, recall(alice, c.second)), at(15, read(bob, aliceBob, 11)), c.later,
	}
	return c
}

// requireErased requires that what alice has written up to position 20 is empty, and nothing else.
func (c chat) requireErased(t *testing.T, s Store) {
	t.Helper()
	empty := func(r events.Record) events.Record {
		r = withdrawn(r)
		r.Message.Extra, r.Message.ReplyTo, r.Message.Mentions = nil, "", nil
		return r
	}
	page, _, err := s.History(t.Context(), aliceBob, store.Page{Limit: 9})
	require.NoError(t, err)
	want := []store.StoredMessage{stored(empty(c.first)), stored(c.theirs), stored(empty(c.second)), stored(c.later)}
	require.Equal(t, want, withoutEdits(page))
	missed, err := s.Missed(t.Context(), bob, everything(aliceBob), 9)
	require.NoError(t, err)
	var messages []events.Record
	for _, r := range missed {
		require.NotEqual(t, events.MessageEdited, r.Type)
		if r.Type == events.NewMessage {
			messages = append(messages, r)
		}
	}
	require.Equal(t, []events.Record{empty(c.first), c.theirs, empty(c.second), c.later}, messages)
	head := headsOf(t, s, bob, 1)[0]
	require.Equal(t, c.later.Seq, head.Last.Seq)
	require.Equal(t, 1, head.Unread)
	require.EqualValues(t, 11, head.ReadSeq)
}

// eraseAll erases the user up to the position in every partition, and returns how many messages that has emptied.
func eraseAll(t *testing.T, s Store, user, through int64) (emptied int) {
	t.Helper()
	require.NoError(t, s.SaveErasure(t.Context(), user, positions(through)))
	names, err := s.Participations(t.Context(), user)
	require.NoError(t, err)
	for _, name := range names {
		for after := int64(0); ; {
			n, next, err := s.EraseIn(t.Context(), user, name, after)
			require.NoError(t, err)
			emptied += n
			if next == 0 {
				break
			}
			require.Greater(t, next, after)
			after = next
		}
	}
	return emptied
}

func positions(seq int64) map[int32]int64 {
	all := make(map[int32]int64)
	for p := range int32(events.DefaultPartitions) {
		all[p] = seq
	}
	return all
}

func requireName(t *testing.T, s Store, want string) {
	t.Helper()
	group, err := s.Group(t.Context(), club)
	require.NoError(t, err)
	require.Equal(t, want, group.Name)
}

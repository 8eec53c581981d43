package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// ruleTests tests records that are well-formed but break a rule. Each is refused for good, with the rule as its reason,
// changes nothing, and holds up neither the other records of its batch nor the stored position.
func ruleTests() []test {
	first, other := at(10, direct(alice, bob, "one")), at(11, direct(bob, alice, "two"))
	group := at(10, closed(created(club, alice, bob)))
	said, heard := at(11, inGroup(alice, club, "hello")), at(11, inGroup(bob, club, "hi"))
	forged := direct(bob, alice, "forged")
	forged.Message.MessageID = first.Message.MessageID
	elsewhere := edit(alice, first, "uno")
	elsewhere.Conversation = aliceCarol
	withSeq := func(seq int64, e events.Event) events.Event {
		e.MessageSeq = seq
		return e
	}
	by := func(user int64, e events.Event) events.Event {
		e.By = user
		return e
	}
	var tests []test
	for _, c := range []struct {
		name   string
		before []events.Record
		broken events.Record
		reason string
	}{
		{"an edit by another than the author", []events.Record{first}, at(12, edit(bob, first, "uno")), "by user 1002, who is not the author"},
		{"a recall by another than the author", []events.Record{first}, at(12, recall(bob, first)), "by user 1002, who is not the author"},
		{"a recall by moderation that names another position", []events.Record{first, other}, at(12, withSeq(9, moderated(first))), "seq 9, but the message has 10"},
		{"a recall by moderation of an unknown message", []events.Record{other}, at(12, moderated(first)), "unknown message"},
		{"an edit that names another position", []events.Record{first, other}, at(12, withSeq(11, edit(alice, first, "uno"))), "seq 11, but the message has 10"},
		{"a recall that names another position", []events.Record{first, other}, at(12, withSeq(9, recall(alice, first))), "seq 9, but the message has 10"},
		{"an edit of an unknown message", []events.Record{other}, at(12, edit(alice, first, "uno")), "unknown message"},
		{"a recall in a conversation that does not exist", nil, at(12, recall(alice, first)), "unknown message"},
		{"an edit of another conversation's message", []events.Record{first, at(10, direct(alice, carol, "there"))}, at(12, elsewhere), "unknown message"},
		{"a message with the id of another user's", []events.Record{first}, at(12, forged), "a message of another user has the id"},
		{"an earlier message with the id of another user's", []events.Record{first}, at(9, forged), "a message of another user has the id"},
		{"a message to a group that does not exist", nil, at(12, inGroup(bob, club, "hello")), "unknown group 77"},
		{"an authorized message to a group that does not exist", nil, at(12, authorized(inGroup(bob, club, "hello"))), "unknown group 77"},
		{"a message to a group before its creation", []events.Record{group}, at(9, inGroup(bob, club, "hello")), "user 1002 is no member of group 77"},
		{"a group message by a stranger", []events.Record{group}, at(12, inGroup(carol, club, "hello")), "user 1003 is no member of group 77"},
		{"an authorized group message by a stranger", []events.Record{group}, at(12, authorized(inGroup(carol, club, "hello"))), "user 1003 is no member of group 77"},
		{"a group message by who has left", []events.Record{group, at(11, left(club, bob))}, at(12, inGroup(bob, club, "hello")), "user 1002 is no member of group 77"},
		{"a message to a dissolved group", []events.Record{group, at(11, dissolved(club, alice))}, at(12, inGroup(bob, club, "hello")), "user 1002 is no member of group 77"},
		{"joining a group that does not exist", nil, at(12, joined(club, carol)), "unknown group 77"},
		{"dissolving a group that does not exist", nil, at(12, dissolved(club, carol)), "unknown group 77"},
		{"dissolving another's group", []events.Record{group}, at(12, dissolved(club, bob)), "by user 1002, who does not own the group"},
		{"renaming a group that does not exist", nil, at(12, renamed(alice, "ours")), "unknown group 77"},
		{"renaming another's group", []events.Record{group}, at(12, renamed(bob, "mine")), "by user 1002, who is no admin of the group"},
		{"bringing somebody into another's group", []events.Record{group}, at(12, by(bob, joined(club, carol))), "by user 1002, who is no admin of the group"},
		{"taking somebody out of another's group", []events.Record{group}, at(12, by(carol, left(club, bob))), "by user 1003, who is no admin of the group"},
		{"giving a role in another's group", []events.Record{group}, at(12, role(bob, alice, events.RoleMember)), "by user 1002, who does not own the group"},
		{"an admin giving a role", []events.Record{group, at(11, role(alice, bob, events.RoleAdmin))}, at(12, role(bob, alice, events.RoleMember)), "by user 1002, who does not own the group"},
		{"a role in a group that does not exist", nil, at(12, role(alice, bob, events.RoleAdmin)), "unknown group 77"},
		{"an admin dissolving the group", []events.Record{group, at(11, role(alice, bob, events.RoleAdmin))}, at(12, dissolved(club, bob)), "by user 1002, who does not own the group"},
		{"muting in another's group", []events.Record{group}, at(12, muted(bob, alice, 5)), "by user 1002, who is no admin of the group"},
		{"muting another's group", []events.Record{group}, at(12, muted(carol, 0, 5)), "by user 1003, who is no admin of the group"},
		{"a recall in a group by no admin", []events.Record{group, said}, at(12, recall(bob, said)), "by user 1002, who is no admin of the group"},
		{"an edit in a group by its owner", []events.Record{group, heard}, at(12, edit(alice, heard, "uno")), "by user 1001, who is not the author"},
		{"a recall by an admin that names another position", []events.Record{group, heard}, at(12, withSeq(9, recall(alice, heard))), "seq 9, but the message has 11"},
		{"entering a closed group", []events.Record{group}, at(12, joined(club, carol)), "group 77 is closed to user 1003"},
		{"entering a group after being taken out", []events.Record{group, at(11, by(alice, left(club, bob)))}, at(12, joined(club, bob)), "group 77 is closed to user 1002"},
		{"the owner leaving the group to itself", []events.Record{group}, at(12, left(club, alice)), "the owner of group 77 leaves it by dissolving it"},
		{"creating another's group", []events.Record{group}, at(12, created(club, carol)), "group 77 exists and is not of user 1003"},
	} {
		tests = append(tests, test{c.name, func(t *testing.T, s Store) {
			last := at(20, direct(alice, bob, "last"))
			batch := append(append([]events.Record{}, c.before...), c.broken, last)
			for range 2 { // also when it comes again
				results := s.SaveBatch(t.Context(), batch)
				for i, err := range results {
					if i != len(c.before) {
						require.NoError(t, err, "record %d", i)
					}
				}
				requireRefused(t, results[len(c.before)], c.reason)
			}
			requireRefused(t, s.SaveBatch(t.Context(), []events.Record{c.broken})[0], c.reason)
			requireUnchanged(t, s, append(c.before, last))
			positions, err := s.Stored(t.Context())
			require.NoError(t, err)
			require.Equal(t, int64(20), positions[last.Partition])
			require.GreaterOrEqual(t, positions[c.broken.Partition], c.broken.Seq)
		}})
	}
	return append(tests,
		test{"a group message by who was a member then is stored also after", func(t *testing.T, s Store) {
			message := at(11, inGroup(bob, club, "hello"))
			save(t, s, group, message, at(12, left(club, bob)))
			save(t, s, message)
			late := at(11, inGroup(bob, team, "late"))
			save(t, s, at(10, created(team, alice, bob)), at(12, left(team, bob)))
			save(t, s, late)
			requireHistory(t, s, clubRoom, stored(message))
			requireHistory(t, s, teamRoom, stored(late))
		}},
		test{"an authorized group message is stored though its sender has left a moment before", func(t *testing.T, s Store) {
			message := at(12, authorized(inGroup(bob, club, "hello")))
			save(t, s, group, at(11, left(club, bob)), message)
			got, err := s.Message(t.Context(), clubRoom, message.Message.MessageID)
			require.NoError(t, err)
			require.Equal(t, message.Seq, got.Seq)
		}},
		test{"within a batch membership is as of each message's position", func(t *testing.T, s Store) {
			welcome, again := at(12, inGroup(carol, club, "first stay")), at(16, inGroup(carol, club, "second stay"))
			results := s.SaveBatch(t.Context(), []events.Record{
				at(10, created(club, alice, bob)), at(11, joined(club, carol)), welcome, at(13, left(club, carol)), at(14, inGroup(carol, club, "away")),
				at(15, joined(club, carol)), again,
			})
			for i, err := range results {
				if i == 4 {
					requireRefused(t, err, "user 1003 is no member")
				} else {
					require.NoError(t, err, "record %d", i)
				}
			}
			requireHistory(t, s, clubRoom, stored(welcome), stored(again))
		}},
	)
}

func requireRefused(t *testing.T, err error, reason string) {
	t.Helper()
	require.ErrorContains(t, err, reason)
	require.True(t, events.IsPermanent(err))
}

// requireUnchanged requires that the store has the effects of the records and no others: everything that can be read must
// equal what a second store returns that saved the same records.
func requireUnchanged(t *testing.T, s Store, records []events.Record) {
	t.Helper()
	messages := make(map[string][]store.StoredMessage)
	for _, c := range []string{aliceBob, aliceCarol, clubRoom} {
		messages[c] = nil
	}
	members := make(map[int64]bool)
	for _, r := range records {
		switch r.Type {
		case events.NewMessage:
			messages[r.Message.Conversation] = append(messages[r.Message.Conversation], stored(r))
		case events.GroupCreated:
			for _, m := range r.Members {
				members[m] = true
			}
		case events.MemberLeft:
			delete(members, r.User)
		case events.GroupDissolved:
			clear(members)
		}
	}
	for conversation, want := range messages {
		requireHistory(t, s, conversation, want...)
	}
	for _, user := range []int64{alice, bob, carol} {
		got, err := s.Memberships(t.Context(), user)
		require.NoError(t, err)
		require.Equal(t, members[user], len(got) == 1, "user %d", user)
	}
}

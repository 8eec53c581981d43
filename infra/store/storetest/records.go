package storetest

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/store"
)

// The users and groups of the tests, and conversations of theirs.
const (
	alice, bob, carol int64 = 1001, 1002, 1003
	club, team        int64 = 77, 78

	aliceBob   = "u:1001:1002"
	aliceCarol = "u:1001:1003"
	clubRoom   = "g:77"
	teamRoom   = "g:78"

	started int64 = 1_700_000_000 // the timestamp of position 0
)

// at gives the event a position in its conversation's partition, with a timestamp and an event id derived from it.
func at(seq int64, e events.Event) events.Record {
	e.Timestamp = started + seq
	if e.Message != nil {
		m := *e.Message
		m.Timestamp = e.Timestamp
		e.Message = &m
		e.EventID = m.MessageID
	} else {
		e.EventID = events.EventID(e.Type, e.Conversation, strconv.FormatInt(seq, 10))
	}
	return events.Record{Event: e, Position: events.Position{Partition: partition(e.ConversationKey()), Seq: seq}}
}

func partition(conversation string) int32 {
	return events.Partition(conversation, events.DefaultPartitions)
}

// upTo returns the part (after, through] of the conversation's partition.
func upTo(conversation string, after, through int64) events.Range {
	return events.Range{Partition: partition(conversation), After: after, Through: through}
}

// direct returns a message from one user to another. Its text is also its client_msg_id.
func direct(from, to int64, text string) events.Event {
	return message(&events.Message{From: from, To: to, Conversation: events.Direct(from, to), Content: text})
}

// inGroup returns a message to the group.
func inGroup(from, group int64, text string) events.Event {
	return message(&events.Message{From: from, GroupID: group, Conversation: events.Group(group), Content: text})
}

func message(m *events.Message) events.Event {
	m.ClientMsgID, m.MessageType = m.Content, 1
	m.MessageID = events.MessageID(m.From, m.Conversation, m.ClientMsgID)
	return events.Event{Type: events.NewMessage, Message: m}
}

func edit(by int64, of events.Record, text string) events.Event {
	return events.Event{
		Type: events.MessageEdited, Conversation: of.ConversationKey(), MessageID: of.Message.MessageID,
		MessageSeq: of.Seq, By: by, Content: text,
	}
}

// repeatOf returns the event of the record again, at a later position.
func repeatOf(r events.Record, seq int64) events.Record {
	r.Seq = seq
	return r
}

func recall(by int64, of events.Record) events.Event {
	e := edit(by, of, "")
	e.Type = events.MessageRecalled
	return e
}

// moderated returns the recall of the message by moderation.
func moderated(of events.Record) events.Event {
	e := recall(0, of)
	e.Reason = "no advertising"
	return e
}

func read(user int64, conversation string, seq int64) events.Event {
	return events.Event{Type: events.MessageRead, Conversation: conversation, User: user, MessageSeq: seq}
}

// created returns the creation of an open group that its first member owns.
func created(group int64, members ...int64) events.Event {
	e := membership(events.GroupCreated, group, members[0])
	e.Name, e.Members, e.Join = "the group", members, events.JoinOpen
	return e
}

func joined(group, user int64) events.Event { return membership(events.MemberJoined, group, user) }
func left(group, user int64) events.Event   { return membership(events.MemberLeft, group, user) }
func dissolved(group, owner int64) events.Event {
	return membership(events.GroupDissolved, group, owner)
}

// renamed returns a renaming of the club.
func renamed(by int64, name string) events.Event {
	e := membership(events.GroupRenamed, club, by)
	e.User, e.Name = 0, name
	return e
}

func role(by, user int64, role events.Role) events.Event {
	e := membership(events.MemberRole, club, user)
	e.By, e.Role = by, role
	return e
}

func muted(by, user, until int64) events.Event {
	e := membership(events.MemberMuted, club, user)
	e.By, e.Until = by, &until
	return e
}

func expelled(by, user int64) events.Event {
	e := left(club, user)
	e.By = by
	return e
}

func membership(kind events.Type, group, user int64) events.Event {
	return events.Event{Type: kind, Conversation: events.Group(group), GroupID: group, User: user, By: user}
}

// closed returns the creation of a group changed to one that is not open.
func closed(e events.Event) events.Event {
	e.Join = ""
	return e
}

// authorized returns the group message as one whose producer has checked that the sender is a member.
func authorized(e events.Event) events.Event {
	e.Message.Authorized = true
	return e
}

// stored returns the record's message as history shows it.
func stored(r events.Record) store.StoredMessage {
	return store.StoredMessage{Message: *r.Message, Seq: r.Seq}
}

// withContent returns the record's message with another content.
func withContent(r events.Record, content string) events.Record {
	m := *r.Message
	m.Content = content
	r.Message = &m
	return r
}

// withdrawn returns the record's message as it is after a recall.
func withdrawn(r events.Record) events.Record {
	r = withContent(r, "")
	r.Message.Recalled = true
	return r
}

// save saves the records in one batch, all of which must succeed.
func save(t *testing.T, s Store, records ...events.Record) {
	t.Helper()
	results := s.SaveBatch(t.Context(), records)
	require.Len(t, results, len(records))
	for i, err := range results {
		require.NoError(t, err, "record %d", i)
	}
}

// saveEach saves every record in a batch of its own.
func saveEach(t *testing.T, s Store, records ...events.Record) {
	t.Helper()
	for _, r := range records {
		save(t, s, r)
	}
}

// requireHistory requires that the conversation holds these messages and no others.
func requireHistory(t *testing.T, s Store, conversation string, want ...store.StoredMessage) {
	t.Helper()
	got, more, err := s.History(t.Context(), conversation, store.Page{Limit: 1000})
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, want, got)
}

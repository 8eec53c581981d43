package message

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestOwnMessageIsEditedAndRecalledAlsoRightAfterItWasSent(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	sent, err := n.SendWSMessage(t.Context(), direct("first")[0])
	require.NoError(t, err)
	id := sent.GetMessageId()

	stored := func() *millracev1.StoredMessage {
		page, err := n.History(t.Context(), &millracev1.HistoryRequest{User: 2, Conversation: "u:1:2"})
		require.NoError(t, err)
		require.Len(t, page.GetMessages(), 1)
		return page.GetMessages()[0]
	}
	edit := &millracev1.EditMessageRequest{User: 1, Conversation: "u:1:2", MessageId: id, Content: "second"}
	require.NoError(t, second(n.EditMessage(t.Context(), edit)))
	eventually(t, func() bool { return stored().GetContent() == "second" })
	require.NotZero(t, stored().GetEditedAt())

	recall := &millracev1.RecallMessageRequest{User: 1, Conversation: "u:1:2", MessageId: id}
	require.NoError(t, second(n.RecallMessage(t.Context(), recall)))
	eventually(t, func() bool { return stored().GetRecalled() })
	require.Empty(t, stored().GetContent())
	require.Equal(t, id, stored().GetMessageId())

	end := n.end(t)
	require.NoError(t, second(n.RecallMessage(t.Context(), recall)), "a repeat is safe")
	requireCode(t, codes.NotFound, second(n.EditMessage(t.Context(), edit)))
	require.Equal(t, end, n.end(t))
}

func TestChangesAreRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	sent, err := n.SendWSMessage(t.Context(), direct("a")[0])
	require.NoError(t, err)
	group := n.group(t).GetGroupId()
	inGroup, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(1), GroupId: group, Content: "x"})
	require.NoError(t, err)
	ctx, c, id := t.Context(), "u:1:2", sent.GetMessageId()
	edit := func(user int64, conversation, id, content string) error {
		return second(n.EditMessage(ctx, &millracev1.EditMessageRequest{
			User: user, Conversation: conversation, MessageId: id, Content: content,
		}))
	}
	editExtra := func(extra string) error {
		r := editOf(id, "x")
		r.Extra = []byte(extra)
		return second(n.EditMessage(ctx, r))
	}
	recall := func(user int64, conversation, id string) error {
		return second(n.RecallMessage(ctx, &millracev1.RecallMessageRequest{User: user, Conversation: conversation, MessageId: id}))
	}
	read := func(user int64, conversation string, seq int64) error {
		return second(n.MarkRead(ctx, &millracev1.MarkReadRequest{User: user, Conversation: conversation, Seq: seq}))
	}
	g := inGroup.GetConversation()
	for name, test := range map[string]struct {
		err  error
		want codes.Code
	}{
		"edit of another's":       {edit(2, c, id, "x"), codes.PermissionDenied},
		"edit elsewhere":          {edit(3, c, id, "x"), codes.PermissionDenied},
		"edit in a foreign group": {edit(2, g, inGroup.GetMessageId(), "x"), codes.NotFound},
		"edit of nothing":         {edit(1, c, "nothing", "x"), codes.NotFound},
		"edit to nothing":         {edit(1, c, id, ""), codes.InvalidArgument},
		"edit to too much":        {edit(1, c, id, strings.Repeat("x", 40<<10)), codes.OutOfRange},
		"edit to bad extra":       {editExtra(`[]`), codes.InvalidArgument},
		"edit to much extra":      {editExtra(string(extraOf(5 << 10))), codes.OutOfRange},
		"edit without place":      {edit(1, "", id, "x"), codes.InvalidArgument},
		"recall of another's":     {recall(2, c, id), codes.PermissionDenied},
		"recall of nothing":       {recall(1, c, "nothing"), codes.NotFound},
		"read elsewhere":          {read(3, c, 1), codes.PermissionDenied},
		"read a foreign group":    {read(2, g, 1), codes.NotFound},
		"read no group":           {read(2, "g:77", 1), codes.NotFound},
		"read from zero":          {read(1, c, 0), codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) { requireCode(t, test.want, test.err) })
	}

	n.bus.instead = func(string, ...*message.Message) error { return errors.New("no leader") }
	eventually(t, func() bool { _, err := n.db.Message(ctx, c, id); return err == nil })
	requireCode(t, codes.Unavailable, edit(1, c, id, "x"))
	requireCode(t, codes.Unavailable, recall(1, c, id))
	requireCode(t, codes.Unavailable, read(1, c, 1))
}

// said sends messages of user 1 to user 2 and returns their ids.
func (n *node) said(t *testing.T, contents ...string) []string {
	t.Helper()
	var ids []string
	for _, m := range direct(contents...) {
		sent, err := n.SendWSMessage(t.Context(), m)
		require.NoError(t, err)
		ids = append(ids, sent.GetMessageId())
	}
	return ids
}

func TestEditReplacesExtraOrKeepsItWhetherOrNotTheMessageIsStored(t *testing.T) {
	for _, stored := range []bool{false, true} {
		n := newNode(t, memory.Config{})
		keep := func() {
			if stored {
				n.keepAll(t)
			}
		}
		send := direct("first")[0]
		send.Extra, send.ReplyTo, send.Mentions = []byte(`{"n":1}`), "another", []int64{2}
		sent, err := n.SendWSMessage(t.Context(), send)
		require.NoError(t, err)
		keep()
		for _, step := range []struct{ extra, want string }{{"", `{"n":1}`}, {`{"n":2}`, `{"n":2}`}, {"", `{"n":2}`}, {`{}`, `{}`}} {
			edit := editOf(sent.GetMessageId(), "changed")
			edit.Extra = []byte(step.extra)
			require.NoError(t, second(n.EditMessage(t.Context(), edit)))
			keep()
			log := n.logOf(t, "u:1:2")
			require.Equal(t, step.want, string(log[len(log)-1].Extra))
		}
		got := n.newest(t)
		require.Equal(t, "changed", got.GetContent())
		require.Equal(t, `{}`, string(got.GetExtra()))
		require.Equal(t, "another", got.GetReplyTo())
		require.Equal(t, []int64{2}, got.GetMentions())
	}
}

func editOf(id, content string) *millracev1.EditMessageRequest {
	return &millracev1.EditMessageRequest{User: 1, Conversation: "u:1:2", MessageId: id, Content: content}
}

func recallOf(id string) *millracev1.RecallMessageRequest {
	return &millracev1.RecallMessageRequest{User: 1, Conversation: "u:1:2", MessageId: id}
}

// newest returns the newest message of the conversation of users 1 and 2, once everything is stored.
func (n *node) newest(t *testing.T) *millracev1.StoredMessage {
	t.Helper()
	n.keepAll(t)
	page, err := n.History(t.Context(), &millracev1.HistoryRequest{User: 1, Conversation: "u:1:2", Limit: 1})
	require.NoError(t, err)
	require.Len(t, page.GetMessages(), 1)
	return page.GetMessages()[0]
}

// logOf returns the records of the conversation.
func (n *node) logOf(t *testing.T, conversation string) []events.Record {
	t.Helper()
	p := events.Partition(conversation, n.service.partitions)
	var all []events.Record
	within := events.Range{Partition: p, Through: n.end(t)[p]}
	require.NoError(t, n.service.visit(t.Context(), conversation, within, func(r *logged) { all = append(all, r.Record) }))
	return all
}

func TestChangesGoByTheLogWhileStorageIsBehind(t *testing.T) {
	n := newNode(t, memory.Config{})
	id := n.said(t, "a")[0]
	require.NoError(t, second(n.EditMessage(t.Context(), editOf(id, "b"))))
	require.NoError(t, second(n.RecallMessage(t.Context(), recallOf(id))))
	requireCode(t, codes.NotFound, second(n.EditMessage(t.Context(), editOf(id, "c"))))
	require.NoError(t, second(n.RecallMessage(t.Context(), recallOf(id))))
	require.Len(t, n.logOf(t, "u:1:2"), 3)
}

func TestChangesAreUnavailableWhereTheStoreOrTheLogCannotBeAsked(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	n := newNodeOver(t, bus)
	id := n.said(t, "a")[0]
	n.store.down.Store(true)
	requireCode(t, codes.Unavailable, second(n.EditMessage(t.Context(), editOf(id, "b"))))
	requireCode(t, codes.Unavailable, second(n.RecallMessage(t.Context(), recallOf(id))))
	n.store.down.Store(false)
	n.service.breaker.until = time.Time{}
	p := events.Partition("u:1:2", n.service.partitions)
	bus.Trim(events.TopicMessages, events.Position{Partition: p, Seq: n.end(t)[p]})
	n.said(t, "b")
	requireCode(t, codes.Unavailable, second(n.EditMessage(t.Context(), editOf(id, "b"))))
}

func TestEditAfterARecallOnAnotherNodeIsNotFound(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	one := newNodeOver(t, bus)
	other := newNodeWith(t, bus, one.db)
	id := one.said(t, "a")[0]
	one.keepAll(t)
	for range 20 {
		require.NoError(t, second(one.RecallMessage(t.Context(), recallOf(id))))
		requireCode(t, codes.NotFound, second(other.EditMessage(t.Context(), editOf(id, "b"))))
	}
	require.Len(t, one.logOf(t, "u:1:2"), 2)
}

// A recall that gets into the log between the check of an edit and the edit itself makes the edit void, so the edit must not
// be answered with ok.
func TestEditThatARecallOvertakesIsNotFound(t *testing.T) {
	n := newNode(t, memory.Config{})
	id := n.said(t, "a")[0]
	overtaken := false
	n.bus.instead = func(topic string, msgs ...*message.Message) error {
		if !overtaken {
			overtaken = true
			n.publish(t, events.Event{
				Type: events.MessageRecalled, EventID: "recall", Conversation: "u:1:2", MessageID: id, MessageSeq: 1, By: 1, Timestamp: 1,
			})
		}
		return n.bus.Bus.Publisher().Publish(topic, msgs...)
	}
	requireCode(t, codes.NotFound, second(n.EditMessage(t.Context(), editOf(id, "b"))))
	require.True(t, n.newest(t).GetRecalled())
}

func TestEditThatSomethingElseOvertakesIsMade(t *testing.T) {
	n := newNode(t, memory.Config{})
	ids := n.said(t, "a", "b")
	n.bus.instead = func(topic string, msgs ...*message.Message) error {
		for _, e := range []events.Event{
			{Type: events.MessageRecalled, EventID: "1", Conversation: "u:1:2", MessageID: ids[0], MessageSeq: 1, By: 1, Timestamp: 1},
			{Type: events.MessageRecalled, EventID: "2", Conversation: "u:1:2", MessageID: ids[1], MessageSeq: 1, By: 2, Timestamp: 1},
		} {
			record, err := newRecord(&e, nil, "")
			require.NoError(t, err)
			require.NoError(t, n.bus.Bus.Publisher().Publish(topic, record))
		}
		return n.bus.Bus.Publisher().Publish(topic, msgs...)
	}
	require.NoError(t, second(n.EditMessage(t.Context(), editOf(ids[1], "c"))))
	require.Equal(t, "c", n.newest(t).GetContent())
}

func TestEditsToAndFroWithinASecondAreAllMade(t *testing.T) {
	n := newNode(t, memory.Config{})
	id := n.said(t, "a")[0]
	for _, content := range []string{"x", "y", "x"} {
		require.NoError(t, second(n.EditMessage(t.Context(), editOf(id, content))))
	}
	require.Equal(t, "x", n.newest(t).GetContent())
	ids := map[string]bool{}
	for _, r := range n.logOf(t, "u:1:2") {
		ids[r.EventID] = true
	}
	require.Len(t, ids, 4, "no handler may take one event for another")
}

func TestEditRepeatedOverAnotherConnectionDoesNotUndoALaterOne(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	one := newNodeOver(t, bus)
	other := newNodeWith(t, bus, one.db)
	id := one.said(t, "a")[0]
	first, second1 := editOf(id, "first"), editOf(id, "second")
	first.ClientMsgId, second1.ClientMsgId = "1", "2"
	for _, storing := range []bool{false, true} {
		require.NoError(t, second(one.EditMessage(t.Context(), first)))
		require.NoError(t, second(other.EditMessage(t.Context(), second1)))
		require.NoError(t, second(other.EditMessage(t.Context(), first)), "a repeat is safe")
		require.Len(t, one.logOf(t, "u:1:2"), 3)
		if storing {
			require.Equal(t, "second", one.newest(t).GetContent())
		}
		one.keepAll(t)
	}
	require.NoError(t, second(one.RecallMessage(t.Context(), recallOf(id))))
	require.NoError(t, second(other.EditMessage(t.Context(), first)), "it was made when it was first asked for")
}

func TestEditWithAnImpossibleClientMsgIDIsRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	r := editOf(n.said(t, "a")[0], "b")
	r.ClientMsgId = strings.Repeat("x", 65)
	requireCode(t, codes.InvalidArgument, second(n.EditMessage(t.Context(), r)))
}

func TestOwnMessageIsRecalledAfterLeavingTheGroup(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	group := n.group(t, 2, 3).GetGroupId()
	in := func(user int64, content string) *millracev1.SendWSMessageResponse {
		sent, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(user), GroupId: group, Content: content})
		require.NoError(t, err)
		return sent
	}
	own, others := in(2, "own"), in(3, "others")
	require.NoError(t, second(n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(2), GroupId: group})))
	recall := func(user int64, m *millracev1.SendWSMessageResponse) error {
		return second(n.RecallMessage(t.Context(), &millracev1.RecallMessageRequest{
			User: user, Conversation: m.GetConversation(), MessageId: m.GetMessageId(),
		}))
	}
	outside := recall(2, others)
	require.Error(t, outside)
	for _, err := range []error{recall(9, own), recall(2, &millracev1.SendWSMessageResponse{
		MessageId: "nothing", Conversation: own.GetConversation(),
	})} {
		require.Equal(t, status.Code(outside), status.Code(err), "it does not tell what there is")
	}
	require.NoError(t, recall(2, own))
	require.Error(t, second(n.EditMessage(t.Context(), &millracev1.EditMessageRequest{
		User: 2, Conversation: own.GetConversation(), MessageId: own.GetMessageId(), Content: "x",
	})))
	eventually(t, func() bool {
		m, err := n.db.Message(t.Context(), own.GetConversation(), own.GetMessageId())
		return err == nil && m.Recalled
	})
}

func readTo(user, seq int64) *millracev1.MarkReadRequest {
	return &millracev1.MarkReadRequest{User: user, Conversation: "u:1:2", Seq: seq}
}

// marks returns the read marks in the log.
func (n *node) marks(t *testing.T) []int64 {
	t.Helper()
	var seqs []int64
	for _, r := range n.logOf(t, "u:1:2") {
		if r.Type == events.MessageRead {
			seqs = append(seqs, r.MessageSeq)
		}
	}
	return seqs
}

func TestReadIsHeldToTheLastMessageAndTakenAgainOnceThereAreMore(t *testing.T) {
	for name, storing := range map[string]bool{"storage is behind": false, "all is stored": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, memory.Config{Partitions: 1})
			settle := func() {
				if storing {
					n.keepAll(t)
				}
			}
			n.said(t, "a") // at 1
			settle()
			require.NoError(t, second(n.MarkRead(t.Context(), readTo(2, 1000)))) // at 2
			settle()
			require.NoError(t, second(n.MarkRead(t.Context(), readTo(2, 1000))), "a repeat is safe")
			n.said(t, "b") // at 3
			settle()
			require.NoError(t, second(n.MarkRead(t.Context(), readTo(2, 1000))))
			require.Equal(t, []int64{1, 3}, n.marks(t))
			n.keepAll(t)
			list, err := n.Conversations(t.Context(), &millracev1.ConversationsRequest{User: 2})
			require.NoError(t, err)
			require.Zero(t, list.GetConversations()[0].GetUnread())
			require.EqualValues(t, 3, list.GetConversations()[0].GetReadSeq())
		})
	}
}

func TestReadThatDoesNotAdvanceIsNotPublished(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.said(t, "a", "b", "c")
	for _, seq := range []int64{2, 1, 2} {
		require.NoError(t, second(n.MarkRead(t.Context(), readTo(2, seq))))
	}
	n.keepAll(t)
	require.NoError(t, second(n.MarkRead(t.Context(), readTo(2, 2))))
	require.NoError(t, second(n.MarkRead(t.Context(), readTo(1, 1))), "each has a mark of its own")
	require.Equal(t, []int64{2, 1}, n.marks(t))
}

func TestReadOfAConversationWithoutMessagesReachesNobody(t *testing.T) {
	n := newNode(t, memory.Config{})
	end := n.end(t)
	require.NoError(t, second(n.MarkRead(t.Context(), readTo(2, 7))))
	require.Equal(t, end, n.end(t))
}

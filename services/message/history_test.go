package message

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func said(from, to int64, id string) events.Event {
	m := events.Message{
		ClientMsgID: id, Conversation: events.Direct(from, to), From: from, To: to, Content: id, MessageType: 1, Timestamp: 5,
	}
	m.MessageID = events.MessageID(from, m.Conversation, id)
	return events.Event{Type: events.NewMessage, Message: &m, Timestamp: 5}
}

func saidIn(group, from int64, id string) events.Event {
	m := events.Message{
		ClientMsgID: id, Conversation: events.Group(group), From: from, GroupID: group, Content: id, MessageType: 1, Timestamp: 5,
		Authorized: true,
	}
	m.MessageID = events.MessageID(from, m.Conversation, id)
	return events.Event{Type: events.NewMessage, Message: &m, Timestamp: 5}
}

// change returns a change of membership in an open group. The id tells it from an earlier one.
func change(t events.Type, group, user int64, id int, members ...int64) events.Event {
	join := ""
	if t == events.GroupCreated {
		join = events.JoinOpen
	}
	return events.Event{
		Type: t, EventID: events.EventID(t, strconv.Itoa(id), strconv.FormatInt(group, 10), strconv.FormatInt(user, 10)),
		Conversation: events.Group(group), GroupID: group, User: user, By: user, Members: members, Join: join, Timestamp: 5,
	}
}

func texts(messages []*millracev1.StoredMessage) []string {
	all := []string{}
	for _, m := range messages {
		all = append(all, m.GetContent())
	}
	return all
}

// walk reads the whole conversation page by page and checks that the pages meet.
func walk(t *testing.T, n *node, user int64, conversation string, limit int32, newestFirst bool) []string {
	t.Helper()
	r := &millracev1.HistoryRequest{User: user, Conversation: conversation, Limit: limit}
	if !newestFirst {
		r.AfterSeq = proto.Int64(0)
	}
	var all []string
	for {
		page, err := n.History(t.Context(), r)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.GetMessages()), int(limit))
		if newestFirst {
			all = append(texts(page.GetMessages()), all...)
		} else {
			all = append(all, texts(page.GetMessages())...)
		}
		if !page.GetMore() {
			return all
		}
		require.NotEmpty(t, page.GetMessages(), "more, but none given")
		if newestFirst {
			r.BeforeSeq = proto.Int64(page.GetMessages()[0].GetSeq())
		} else {
			r.AfterSeq = proto.Int64(page.GetMessages()[len(page.GetMessages())-1].GetSeq())
		}
	}
}

func TestHistoryIsReadBothWaysInPagesThatMeet(t *testing.T) {
	n := newNode(t, memory.Config{})
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprint(i))
		n.publish(t, said(1, 2, want[i]), said(1, 3, "elsewhere"+want[i]))
	}
	n.keepAll(t)
	for limit := int32(1); limit <= 8; limit++ {
		require.Equal(t, want, walk(t, n, 1, "u:1:2", limit, true), "limit %d", limit)
		require.Equal(t, want, walk(t, n, 2, "u:1:2", limit, false), "limit %d", limit)
	}
}

func TestHistoryOfAGroupIsThatOfTheUsersStays(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t,
		change(events.GroupCreated, 7, 1, 0, 1), saidIn(7, 1, "before"),
		change(events.MemberJoined, 7, 2, 0), saidIn(7, 1, "a"), saidIn(7, 1, "b"),
		change(events.MemberLeft, 7, 2, 0), saidIn(7, 1, "away"),
		change(events.MemberJoined, 7, 2, 1), change(events.MemberLeft, 7, 2, 1), saidIn(7, 1, "away again"),
		change(events.MemberJoined, 7, 2, 2), saidIn(7, 1, "c"), saidIn(7, 2, "d"), saidIn(7, 1, "e"),
	)
	n.keepAll(t)
	want := []string{"a", "b", "c", "d", "e"}
	for limit := int32(1); limit <= 6; limit++ {
		require.Equal(t, want, walk(t, n, 2, "g:7", limit, true), "limit %d", limit)
		require.Equal(t, want, walk(t, n, 2, "g:7", limit, false), "limit %d", limit)
	}
	n.publish(t, change(events.GroupDissolved, 7, 1, 0), saidIn(7, 1, "too late"))
	n.keepAll(t)
	require.Equal(t, want, walk(t, n, 2, "g:7", 50, true), "what was seen stays")
}

func TestHistoryHasTheLimitsOfTheContract(t *testing.T) {
	n := newNode(t, memory.Config{})
	for i := range 201 {
		n.publish(t, said(1, 2, fmt.Sprint(i)))
	}
	n.keepAll(t)
	for limit, want := range map[int32]int{0: 50, 1: 1, 200: 200, 1000: 200} {
		page, err := n.History(t.Context(), &millracev1.HistoryRequest{User: 1, Conversation: "u:1:2", Limit: limit})
		require.NoError(t, err)
		require.Len(t, page.GetMessages(), want)
		require.True(t, page.GetMore())
	}
}

func TestHistoryIsRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t, change(events.GroupCreated, 7, 1, 0, 1))
	n.keepAll(t)
	for name, c := range map[string]struct {
		r    *millracev1.HistoryRequest
		want codes.Code
	}{
		"no conversation":  {&millracev1.HistoryRequest{User: 1}, codes.InvalidArgument},
		"another form":     {&millracev1.HistoryRequest{User: 1, Conversation: "u:2:1"}, codes.InvalidArgument},
		"of others":        {&millracev1.HistoryRequest{User: 3, Conversation: "u:1:2"}, codes.PermissionDenied},
		"of nobody":        {&millracev1.HistoryRequest{Conversation: "u:1:2"}, codes.PermissionDenied},
		"never a member":   {&millracev1.HistoryRequest{User: 3, Conversation: "g:7"}, codes.NotFound},
		"no such group":    {&millracev1.HistoryRequest{User: 3, Conversation: "g:8"}, codes.NotFound},
		"both directions":  {&millracev1.HistoryRequest{User: 1, Conversation: "u:1:2", BeforeSeq: proto.Int64(1), AfterSeq: proto.Int64(1)}, codes.InvalidArgument},
		"negative after":   {&millracev1.HistoryRequest{User: 1, Conversation: "u:1:2", AfterSeq: proto.Int64(-1)}, codes.InvalidArgument},
		"before the first": {&millracev1.HistoryRequest{User: 1, Conversation: "u:1:2", BeforeSeq: proto.Int64(0)}, codes.InvalidArgument},
		"negative limit":   {&millracev1.HistoryRequest{User: 1, Conversation: "u:1:2", Limit: -1}, codes.InvalidArgument},
		"nothing there":    {&millracev1.HistoryRequest{User: 1, Conversation: "u:1:2"}, codes.OK},
	} {
		t.Run(name, func(t *testing.T) { requireCode(t, c.want, second(n.History(t.Context(), c.r))) })
	}
	n.store.down.Store(true)
	requireCode(t, codes.Unavailable, second(n.History(t.Context(), &millracev1.HistoryRequest{User: 1, Conversation: "u:1:2"})))
	requireCode(t, codes.Unavailable, second(n.Conversations(t.Context(), &millracev1.ConversationsRequest{User: 1})))
	requireCode(t, codes.InvalidArgument, second(n.Conversations(t.Context(), &millracev1.ConversationsRequest{})))
}

func TestConversationsTellTheLastMessageAndWhatIsUnread(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	n.publish(t, said(2, 1, "a"), said(2, 1, "b"), said(1, 3, "c"))
	last := n.publish(t, said(2, 1, "d"))[0]
	require.NoError(t, n.service.waitStored(t.Context(), map[int32]int64{last.Partition: last.Seq}, storedWait))
	read := &millracev1.MarkReadRequest{User: 1, Conversation: "u:1:2", Seq: last.Seq}

	unread := func() int32 {
		r, err := n.Conversations(t.Context(), &millracev1.ConversationsRequest{User: 1})
		require.NoError(t, err)
		for _, c := range r.GetConversations() {
			if c.GetConversation() == "u:1:2" {
				require.Equal(t, "d", c.GetLast().GetContent())
				require.Equal(t, last.Seq, c.GetLast().GetSeq())
				return c.GetUnread()
			}
		}
		t.Error("no u:1:2")
		return -1
	}
	require.Equal(t, int32(3), unread())
	require.NoError(t, second(n.MarkRead(t.Context(), read)))
	eventually(t, func() bool { return unread() == 0 })
}

func TestEveryConversationIsListedOnSomePage(t *testing.T) {
	n := newNode(t, memory.Config{})
	var all []events.Event
	for i := range int64(205) {
		all = append(all, said(1, 1000+i, "a"))
	}
	n.publish(t, all...)
	n.keepAll(t)
	for _, limit := range []int32{7, 200, 1000} {
		listed := map[string]int{}
		for r := (&millracev1.ConversationsRequest{User: 1, Limit: limit}); ; {
			page, err := n.Conversations(t.Context(), r)
			require.NoError(t, err)
			for _, c := range page.GetConversations() {
				listed[c.GetConversation()]++
				r.Next = c.GetNext()
			}
			if !page.GetMore() {
				break
			}
			require.Len(t, page.GetConversations(), int(min(limit, 200)))
		}
		require.Len(t, listed, len(all))
		for conversation, times := range listed {
			require.Equal(t, 1, times, conversation)
		}
	}
	for _, next := range []string{"?", "eA", formatNext(1, "u:2:1")} {
		requireCode(t, codes.InvalidArgument, second(n.Conversations(t.Context(), &millracev1.ConversationsRequest{User: 1, Next: next})))
	}
}

// Storing begins some time after publishing.
func TestHistoryHasWhatWasAcknowledgedBefore(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	for i := range 50 {
		id := fmt.Sprint(i)
		n.publish(t, said(1, 2, id))
		page, err := n.History(t.Context(), &millracev1.HistoryRequest{User: 2, Conversation: "u:1:2", Limit: 1})
		require.NoError(t, err)
		require.Equal(t, []string{id}, texts(page.GetMessages()))
		heads, err := n.Conversations(t.Context(), &millracev1.ConversationsRequest{User: 2})
		require.NoError(t, err)
		require.Equal(t, id, heads.GetConversations()[0].GetLast().GetContent())
	}
}

// A record that goes to the poison queue is never stored, so nobody waits for it.
func TestHistoryDoesNotWaitForWhatIsPoison(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	n.publish(t, said(1, 2, "a"))
	n.publishRaw(t, "u:1:2", "poison")
	end := n.end(t)
	eventually(t, func() bool {
		committed, err := n.bus.Log(events.TopicMessages).Committed(t.Context(), storageGroup)
		return err == nil && reached(end, committed)
	})
	before := n.store.calls.Load()
	require.NoError(t, n.service.storedNow(t.Context(), "u:1:2"))
	require.Equal(t, int64(1), n.store.calls.Load()-before, "looking once is enough")
}

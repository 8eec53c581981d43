package main

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

func TestEndToEndDirectChatReachesBothAndHistory(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)

	sent := a.Sends(t, client.ToUser(proof.Bob), "hello")
	require.Equal(t, "u:1001:1002", sent.Conversation)
	for _, u := range []*proof.User{a, b} {
		push := u.Sees(t, "new_message")
		require.Equal(t, sent.MessageID, push.Message.MessageID)
		require.Equal(t, "hello", push.Message.Content)
		require.EqualValues(t, proof.Alice, push.Message.From)
		require.Positive(t, push.Seq)
	}
	b.Sends(t, client.ToUser(proof.Alice), "hi")
	require.Equal(t, "hi", a.Sees(t, "new_message").Message.Content)

	require.Equal(t, []string{"hello", "hi"}, contents(eventually(t, a, sent.Conversation, 2)))
}

func TestEndToEndMessageToOneselfIsOnePush(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := proof.Join(t, d.url(), proof.Alice, nil)
	a.Sends(t, client.ToUser(proof.Alice), "note")
	a.Sends(t, client.ToUser(proof.Alice), "another")
	require.Equal(t, []string{"note", "another"}, a.Reads(t, 2))
}

func TestEndToEndGroupSeesWhatLiesBetweenJoiningAndLeaving(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b, c := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil), proof.Join(t, d.url(), proof.Carol, nil)
	ctx := t.Context()

	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	require.Equal(t, []int64{proof.Alice, proof.Bob}, group.Members)
	to := client.ToGroup(group.GroupID)
	require.Equal(t, group.GroupID, b.Sees(t, "group_created").GroupID)

	a.Sends(t, to, "before")
	_, err = c.Send(ctx, client.Send{Target: to, Content: "let me in"})
	require.ErrorIs(t, err, &client.Error{Code: client.NotFound})

	_, err = a.Group(ctx, client.GroupAdd{GroupID: group.GroupID, User: proof.Carol})
	require.NoError(t, err)
	c.Sends(t, to, "thanks")
	_, err = a.Group(ctx, client.GroupRemove{GroupID: group.GroupID, User: proof.Carol})
	require.NoError(t, err)
	_, err = c.Send(ctx, client.Send{Target: to, Content: "again"})
	require.ErrorIs(t, err, &client.Error{Code: client.NotFound})
	b.Sends(t, to, "after")

	all := []string{"before", "thanks", "after"}
	require.Equal(t, all, a.Reads(t, 3))
	require.Equal(t, all, b.Reads(t, 3))
	require.EqualValues(t, proof.Carol, c.Sees(t, "member_joined").User)
	require.Equal(t, []string{"thanks"}, c.Reads(t, 1))
	require.EqualValues(t, proof.Carol, c.Sees(t, "member_left").User)
	// The next push to carol comes after everything that was sent to the group.
	b.Sends(t, client.ToUser(proof.Carol), "sorry")
	require.Equal(t, []string{"sorry"}, c.Reads(t, 1))

	require.Equal(t, all, contents(eventually(t, b, events.Group(group.GroupID), 3)))
	require.Equal(t, []string{"thanks"}, contents(eventually(t, c, events.Group(group.GroupID), 1)))
}

func TestEndToEndGroupOfOthersLooksLikeOneThatDoesNotExist(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, c := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Carol, nil)
	group, err := a.Group(t.Context(), client.GroupCreate{Name: "friends", Members: []int64{proof.Bob}})
	require.NoError(t, err)
	requests := func(group int64) []client.Request {
		room := events.Group(group)
		return []client.Request{
			client.Send{Target: client.ToGroup(group), Content: "x"},
			client.Typing{Target: client.ToGroup(group)},
			client.History{Conversation: room},
			client.Read{Conversation: room, Seq: 1},
			client.Readers{Conversation: room, Seq: 1},
			client.Settings{Conversation: room, Settings: events.Settings{Pinned: new(true)}},
			client.Edit{Conversation: room, MessageID: "m", Content: "x"},
			client.Recall{Conversation: room, MessageID: "m"},
			client.GroupInfo{GroupID: group},
			client.GroupJoin{GroupID: group},
			client.GroupLeave{GroupID: group},
			client.GroupAdd{GroupID: group, User: proof.Carol},
			client.GroupRemove{GroupID: group, User: proof.Bob},
			client.GroupRename{GroupID: group, Name: "mine"},
			client.GroupDissolve{GroupID: group},
		}
	}
	for _, id := range []int64{group.GroupID, group.GroupID ^ 1} {
		for _, r := range requests(id) {
			_, err := c.Call(t.Context(), r)
			var refused *client.Error
			require.ErrorAs(t, err, &refused, "%T", r)
			require.Equal(t, client.Error{Code: client.NotFound, Message: "no such group"}, *refused, "%T", r)
		}
	}

	open, err := a.Group(t.Context(), client.GroupCreate{Name: "plaza", Join: events.JoinOpen})
	require.NoError(t, err)
	joined, err := c.Group(t.Context(), client.GroupJoin{GroupID: open.GroupID})
	require.NoError(t, err)
	require.Equal(t, client.Group{GroupID: open.GroupID, Name: "plaza", Owner: proof.Alice, Members: []int64{proof.Alice, proof.Carol}, Join: "open"}, joined)
}

func TestEndToEndEveryConversationIsListedHoweverLargeItsLastMessage(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := proof.Join(t, d.url(), proof.Alice, nil)
	want := map[string]bool{}
	for i := range int64(40) {
		want[a.Sends(t, client.ToUser(5000+i), strings.Repeat("x", events.MaxContentBytes)).Conversation] = true
	}
	listed := func() map[string]bool {
		all := map[string]bool{}
		for page, more := (client.ConversationPage{}), true; more; more = page.More {
			var err error
			page, err = a.Conversations(t.Context(), client.Conversations{Limit: 200, Next: page.Next})
			require.NoError(t, err)
			for _, c := range page.Conversations {
				require.NotContains(t, all, c.Conversation)
				all[c.Conversation] = true
			}
		}
		return all
	}
	require.Eventually(t, func() bool { return len(listed()) == len(want) }, proof.Patience, 10*time.Millisecond)
	require.Equal(t, want, listed())
}

func TestEndToEndClientThatWasAwayGetsWhatItMissedOnceAndInOrder(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	for _, content := range proof.Numbered(0, 10) {
		a.Sends(t, client.ToUser(proof.Bob), content)
	}
	require.Equal(t, proof.Numbered(0, 10), b.Reads(t, 10))
	require.NoError(t, b.Close())
	for _, content := range proof.Numbered(10, 60) {
		a.Sends(t, client.ToUser(proof.Bob), content)
	}
	back := proof.Join(t, d.url(), proof.Bob, b.Cursor())
	require.True(t, back.Session().Recovered)
	require.True(t, back.Session().Complete)
	a.Sends(t, client.ToUser(proof.Bob), "60")
	require.Equal(t, proof.Numbered(10, 61), back.Reads(t, 51))
}

func TestEndToEndTooMuchMissedIsSaid(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	a.Sends(t, client.ToUser(proof.Bob), "first")
	require.Equal(t, []string{"first"}, b.Reads(t, 1))
	require.NoError(t, b.Close())
	var sending []*client.Sending
	for _, content := range proof.Numbered(0, 1001) {
		sending = append(sending, a.Post(t.Context(), client.Send{Target: client.ToUser(proof.Bob), Content: content}))
	}
	for _, s := range sending {
		_, err := s.Wait()
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { // until then the resume is incomplete
		newest, err := a.History(t.Context(), client.History{Conversation: events.Direct(proof.Alice, proof.Bob), Limit: 1})
		return err == nil && slices.Equal([]string{"1000"}, contents(newest.Messages))
	}, proof.Patience, 5*time.Millisecond)
	back := proof.Join(t, d.url(), proof.Bob, b.Cursor())
	require.False(t, back.Session().Recovered)
	a.Sends(t, client.ToUser(proof.Bob), "live")
	require.Equal(t, []string{"live"}, back.Reads(t, 1))
}

func TestEndToEndRepeatedSendIsOneMessageAlsoAfterARestart(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	send := client.Send{Target: client.ToUser(proof.Bob), Content: "once", ClientMsgID: "c-1"}
	var ids []string
	repeat := func(u *proof.User) {
		sent, err := u.Send(t.Context(), send)
		require.NoError(t, err)
		ids = append(ids, sent.MessageID)
	}
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	repeat(a)
	repeat(a)
	require.Equal(t, "once", b.Sees(t, "new_message").Message.Content)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	d.stop()

	d = startDev(t, dir)
	a, b = proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, b.Cursor())
	repeat(a)
	a.Sends(t, client.ToUser(proof.Bob), "next")
	require.Len(t, slices.Compact(ids), 1)
	require.Equal(t, []string{"once", "next"}, contents(eventually(t, a, "u:1001:1002", 2)))
	// The marks were lost with the process. So the repeat may be pushed once more, with its id, and the client hides it.
	push := b.Sees(t, "new_message")
	for push.Message.MessageID == ids[0] {
		push = b.Sees(t, "new_message")
	}
	require.Equal(t, "next", push.Message.Content)
}

func TestEndToEndHistorySurvivesARestartAndClientsResume(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	a, b := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	for _, content := range proof.Numbered(0, 20) {
		a.Sends(t, client.ToUser(proof.Bob), content)
	}
	require.Equal(t, proof.Numbered(0, 20), b.Reads(t, 20))
	require.NoError(t, b.Close())
	for _, content := range proof.Numbered(20, 30) {
		a.Sends(t, client.ToUser(proof.Bob), content)
	}
	require.NoError(t, a.Close())
	d.stop()

	d = startDev(t, dir)
	back := proof.Join(t, d.url(), proof.Bob, b.Cursor())
	require.Equal(t, proof.Numbered(20, 30), back.Reads(t, 10))
	require.Equal(t, proof.Numbered(0, 30), contents(eventually(t, back, "u:1001:1002", 30)))
}

func TestEndToEndForeignProducersRecordIsStoredAndPushed(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	b := proof.Join(t, d.url(), proof.Bob, nil)
	producer, err := kgo.NewClient(kgo.SeedBrokers(d.brokers...))
	require.NoError(t, err)
	defer producer.Close()
	produce := func(key, value string) {
		result := producer.ProduceSync(t.Context(), &kgo.Record{Topic: events.TopicMessages, Key: []byte(key), Value: []byte(value)})
		require.NoError(t, result.FirstErr())
	}
	message := func(content string) string {
		return `{"type":"new_message","message":{"from":1001,"to":1002,"content":"` + content + `","message_type":1,"timestamp":5},"timestamp":5}`
	}
	produce("u:1001:1002", "garbage")
	produce("u:1001:1002", message("from outside"))
	produce("u:1001:1002", message("from outside"))

	require.Equal(t, []string{"from outside", "from outside"}, b.Reads(t, 2), "two records without ids are two messages")
	stored := eventually(t, b, "u:1001:1002", 2)
	require.NotEqual(t, stored[0].MessageID, stored[1].MessageID)

	poison := consume(t, d.brokers, events.PoisonTopic(events.TopicMessages), 3)
	for _, r := range poison {
		require.Equal(t, "garbage", string(r.Value), "each handler has poisoned it, and nothing else")
	}
}

func TestEndToEndRecordLooksToOtherConsumersAsByContract(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	sent := proof.Join(t, d.url(), proof.Alice, nil).Sends(t, client.ToUser(proof.Bob), "hello <&>")

	record := consume(t, d.brokers, events.TopicMessages, 1)[0]
	require.Equal(t, "u:1001:1002", string(record.Key))
	require.Equal(t, events.Partition("u:1001:1002", proof.Partitions(t, d.brokers)), record.Partition)
	var members, message map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(record.Value, &members))
	require.ElementsMatch(t, []string{"type", "message", "timestamp"}, keys(members))
	require.NoError(t, json.Unmarshal(members["message"], &message))
	require.ElementsMatch(t, []string{
		"message_id", "client_msg_id", "conversation", "from", "to", "content", "message_type", "timestamp",
	}, keys(message))
	require.Equal(t, strconv.Quote(sent.MessageID), string(message["message_id"]))
	require.Equal(t, `"hello <&>"`, string(message["content"]))
}

// eventually reads the history until it has n messages, because storing runs behind sending.
func eventually(t *testing.T, u *proof.User, conversation string, n int) []client.Message {
	t.Helper()
	var page client.Page
	require.Eventually(t, func() bool {
		var err error
		page, err = u.History(t.Context(), client.History{Conversation: conversation, Limit: 200})
		require.NoError(t, err)
		return len(page.Messages) >= n
	}, proof.Patience, 5*time.Millisecond)
	require.Len(t, page.Messages, n)
	return page.Messages
}

func contents(messages []client.Message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Content)
	}
	return all
}

// consume reads the first n records of a topic without a consumer group.
func consume(t *testing.T, brokers []string, topic string, n int) []*kgo.Record {
	t.Helper()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic))
	require.NoError(t, err)
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), proof.Patience)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := consumer.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func keys(members map[string]json.RawMessage) []string {
	var names []string
	for name := range members {
		names = append(names, name)
	}
	return names
}

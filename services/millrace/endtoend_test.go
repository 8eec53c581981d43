package main

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	"millrace/services/client"
)

const (
	alice = 1001
	bob   = 1002
	carol = 1003
)

func TestEndToEndDirectChatReachesBothAndHistory(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil)

	sent := a.sends(t, client.ToUser(bob), "hello")
	require.Equal(t, "u:1001:1002", sent.Conversation)
	for _, u := range []*user{a, b} {
		push := u.sees(t, "new_message")
		require.Equal(t, sent.MessageID, push.Message.MessageID)
		require.Equal(t, "hello", push.Message.Content)
		require.EqualValues(t, alice, push.Message.From)
		require.Positive(t, push.Seq)
	}
	b.sends(t, client.ToUser(alice), "hi")
	require.Equal(t, "hi", a.sees(t, "new_message").Message.Content)

	require.Equal(t, []string{"hello", "hi"}, contents(eventually(t, a, sent.Conversation, 2)))
}

func TestEndToEndMessageToOneselfIsOnePush(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a := join(t, d.url(), alice, nil)
	a.sends(t, client.ToUser(alice), "note")
	a.sends(t, client.ToUser(alice), "another")
	require.Equal(t, []string{"note", "another"}, a.reads(t, 2))
}

func TestEndToEndGroupSeesWhatLiesBetweenJoiningAndLeaving(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b, c := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil), join(t, d.url(), carol, nil)
	ctx := t.Context()

	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{bob}})
	require.NoError(t, err)
	require.Equal(t, []int64{alice, bob}, group.Members)
	to := client.ToGroup(group.GroupID)
	require.Equal(t, group.GroupID, b.sees(t, "group_created").GroupID)

	a.sends(t, to, "before")
	_, err = c.Send(ctx, client.Send{Target: to, Content: "let me in"})
	require.ErrorIs(t, err, &client.Error{Code: client.PermissionDenied})

	_, err = a.Group(ctx, client.GroupAdd{GroupID: group.GroupID, User: carol})
	require.NoError(t, err)
	c.sends(t, to, "thanks")
	_, err = a.Group(ctx, client.GroupRemove{GroupID: group.GroupID, User: carol})
	require.NoError(t, err)
	_, err = c.Send(ctx, client.Send{Target: to, Content: "again"})
	require.ErrorIs(t, err, &client.Error{Code: client.PermissionDenied})
	b.sends(t, to, "after")

	all := []string{"before", "thanks", "after"}
	require.Equal(t, all, a.reads(t, 3))
	require.Equal(t, all, b.reads(t, 3))
	require.EqualValues(t, carol, c.sees(t, "member_joined").User)
	require.Equal(t, []string{"thanks"}, c.reads(t, 1))
	require.EqualValues(t, carol, c.sees(t, "member_left").User)
	// What comes next for carol comes after all that was sent to the group.
	b.sends(t, client.ToUser(carol), "sorry")
	require.Equal(t, []string{"sorry"}, c.reads(t, 1))

	require.Equal(t, all, contents(eventually(t, b, events.Group(group.GroupID), 3)))
	require.Equal(t, []string{"thanks"}, contents(eventually(t, c, events.Group(group.GroupID), 1)))
}

func TestEndToEndClientThatWasAwayGetsWhatItMissedOnceAndInOrder(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil)
	for _, content := range numbered(0, 10) {
		a.sends(t, client.ToUser(bob), content)
	}
	require.Equal(t, numbered(0, 10), b.reads(t, 10))
	require.NoError(t, b.Close())
	for _, content := range numbered(10, 60) {
		a.sends(t, client.ToUser(bob), content)
	}
	back := join(t, d.url(), bob, b.Cursor())
	require.True(t, back.Session().Recovered)
	require.True(t, back.Session().Complete)
	a.sends(t, client.ToUser(bob), "60")
	require.Equal(t, numbered(10, 61), back.reads(t, 51))
}

func TestEndToEndTooMuchMissedIsSaid(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	a, b := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil)
	a.sends(t, client.ToUser(bob), "first")
	require.Equal(t, []string{"first"}, b.reads(t, 1))
	require.NoError(t, b.Close())
	var sending []*client.Sending
	for _, content := range numbered(0, 1001) {
		sending = append(sending, a.Post(t.Context(), client.Send{Target: client.ToUser(bob), Content: content}))
	}
	for _, s := range sending {
		_, err := s.Wait()
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { // till then something is said to be incomplete
		newest, err := a.History(t.Context(), client.History{Conversation: events.Direct(alice, bob), Limit: 1})
		return err == nil && slices.Equal([]string{"1000"}, contents(newest.Messages))
	}, patience, 5*time.Millisecond)
	back := join(t, d.url(), bob, b.Cursor())
	require.False(t, back.Session().Recovered)
	a.sends(t, client.ToUser(bob), "live")
	require.Equal(t, []string{"live"}, back.reads(t, 1))
}

func TestEndToEndRepeatedSendIsOneMessageAlsoAfterARestart(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	send := client.Send{Target: client.ToUser(bob), Content: "once", ClientMsgID: "c-1"}
	var ids []string
	repeat := func(u *user) {
		sent, err := u.Send(t.Context(), send)
		require.NoError(t, err)
		ids = append(ids, sent.MessageID)
	}
	a, b := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil)
	repeat(a)
	repeat(a)
	require.Equal(t, "once", b.sees(t, "new_message").Message.Content)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	d.stop()

	d = startDev(t, dir)
	a, b = join(t, d.url(), alice, nil), join(t, d.url(), bob, b.Cursor())
	repeat(a)
	a.sends(t, client.ToUser(bob), "next")
	require.Len(t, slices.Compact(ids), 1)
	require.Equal(t, []string{"once", "next"}, contents(eventually(t, a, "u:1001:1002", 2)))
	// The marks were lost with the process: the repeat may be pushed once more, under its id, for the client to hide.
	push := b.sees(t, "new_message")
	for push.Message.MessageID == ids[0] {
		push = b.sees(t, "new_message")
	}
	require.Equal(t, "next", push.Message.Content)
}

func TestEndToEndHistorySurvivesARestartAndClientsResume(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	a, b := join(t, d.url(), alice, nil), join(t, d.url(), bob, nil)
	for _, content := range numbered(0, 20) {
		a.sends(t, client.ToUser(bob), content)
	}
	require.Equal(t, numbered(0, 20), b.reads(t, 20))
	require.NoError(t, b.Close())
	for _, content := range numbered(20, 30) {
		a.sends(t, client.ToUser(bob), content)
	}
	require.NoError(t, a.Close())
	d.stop()

	d = startDev(t, dir)
	back := join(t, d.url(), bob, b.Cursor())
	require.Equal(t, numbered(20, 30), back.reads(t, 10))
	require.Equal(t, numbered(0, 30), contents(eventually(t, back, "u:1001:1002", 30)))
}

func TestEndToEndForeignProducersRecordIsStoredAndPushed(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	b := join(t, d.url(), bob, nil)
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

	require.Equal(t, []string{"from outside", "from outside"}, b.reads(t, 2), "two records without ids are two messages")
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
	sent := join(t, d.url(), alice, nil).sends(t, client.ToUser(bob), "hello <&>")

	record := consume(t, d.brokers, events.TopicMessages, 1)[0]
	require.Equal(t, "u:1001:1002", string(record.Key))
	require.Equal(t, events.Partition("u:1001:1002", events.DefaultPartitions), record.Partition)
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

// eventually reads the history until it has n messages: storing runs behind sending.
func eventually(t *testing.T, u *user, conversation string, n int) []client.Message {
	t.Helper()
	var page client.Page
	require.Eventually(t, func() bool {
		var err error
		page, err = u.History(t.Context(), client.History{Conversation: conversation, Limit: 200})
		require.NoError(t, err)
		return len(page.Messages) >= n
	}, patience, 5*time.Millisecond)
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

// consume reads the first n records of a topic as a consumer without a group.
func consume(t *testing.T, brokers []string, topic string, n int) []*kgo.Record {
	t.Helper()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic))
	require.NoError(t, err)
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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

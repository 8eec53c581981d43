package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestSendIsRefusedWithTheCodeOfItsFault(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	group := n.group(t, 2).GetGroupId()
	dissolved := n.group(t, 2).GetGroupId()
	_, err := n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(1), GroupId: dissolved})
	require.NoError(t, err)

	for name, c := range map[string]struct {
		change func(*millracev1.SendWSMessageRequest)
		want   codes.Code
	}{
		"valid":           {func(*millracev1.SendWSMessageRequest) {}, codes.OK},
		"largest content": {func(r *millracev1.SendWSMessageRequest) { r.Content = strings.Repeat("x", 32<<10) }, codes.OK},
		"longest id":      {func(r *millracev1.SendWSMessageRequest) { r.ClientMsgId = strings.Repeat("x", 64) }, codes.OK},
		"to oneself":      {func(r *millracev1.SendWSMessageRequest) { r.To = 1 }, codes.OK},
		"member":          {func(r *millracev1.SendWSMessageRequest) { r.To, r.GroupId = 0, group }, codes.OK},
		"no sender":       {func(r *millracev1.SendWSMessageRequest) { r.Sender = nil }, codes.InvalidArgument},
		"sender too high": {func(r *millracev1.SendWSMessageRequest) { r.Sender.User = 1 << 53 }, codes.InvalidArgument},
		"to nobody":       {func(r *millracev1.SendWSMessageRequest) { r.To = 0 }, codes.InvalidArgument},
		"negative to":     {func(r *millracev1.SendWSMessageRequest) { r.To = -2 }, codes.InvalidArgument},
		"both targets":    {func(r *millracev1.SendWSMessageRequest) { r.GroupId = group }, codes.InvalidArgument},
		"negative group":  {func(r *millracev1.SendWSMessageRequest) { r.To, r.GroupId = 0, -1 }, codes.InvalidArgument},
		"no content":      {func(r *millracev1.SendWSMessageRequest) { r.Content = "" }, codes.InvalidArgument},
		"too large":       {func(r *millracev1.SendWSMessageRequest) { r.Content = strings.Repeat("x", 32<<10+1) }, codes.OutOfRange},
		"negative type":   {func(r *millracev1.SendWSMessageRequest) { r.MessageType = -1 }, codes.InvalidArgument},
		"type not in use": {func(r *millracev1.SendWSMessageRequest) { r.MessageType = 7 }, codes.InvalidArgument},
		"too long an id":  {func(r *millracev1.SendWSMessageRequest) { r.ClientMsgId = strings.Repeat("x", 65) }, codes.InvalidArgument},
		"most extra":      {func(r *millracev1.SendWSMessageRequest) { r.Extra = extraOf(4 << 10) }, codes.OK},
		"too much extra":  {func(r *millracev1.SendWSMessageRequest) { r.Extra = extraOf(4<<10 + 1) }, codes.OutOfRange},
		"extra no object": {func(r *millracev1.SendWSMessageRequest) { r.Extra = []byte(`[1]`) }, codes.InvalidArgument},
		"extra no JSON":   {func(r *millracev1.SendWSMessageRequest) { r.Extra = []byte(`{"a":`) }, codes.InvalidArgument},
		"reply to one":    {func(r *millracev1.SendWSMessageRequest) { r.ReplyTo = "unknown" }, codes.OK},
		"long reply_to":   {func(r *millracev1.SendWSMessageRequest) { r.ReplyTo = strings.Repeat("x", 65) }, codes.InvalidArgument},
		"most mentions":   {func(r *millracev1.SendWSMessageRequest) { r.Mentions = slices.Repeat([]int64{9}, 50) }, codes.OK},
		"many mentions":   {func(r *millracev1.SendWSMessageRequest) { r.Mentions = slices.Repeat([]int64{9}, 51) }, codes.InvalidArgument},
		"mentions nobody": {func(r *millracev1.SendWSMessageRequest) { r.Mentions = []int64{0} }, codes.InvalidArgument},
		"no member":       {func(r *millracev1.SendWSMessageRequest) { r.Sender.User, r.To, r.GroupId = 3, 0, group }, codes.NotFound},
		"unknown group":   {func(r *millracev1.SendWSMessageRequest) { r.To, r.GroupId = 0, 77 }, codes.NotFound},
		"dissolved group": {func(r *millracev1.SendWSMessageRequest) { r.To, r.GroupId = 0, dissolved }, codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r := &millracev1.SendWSMessageRequest{Sender: by(1), To: 2, Content: "hello"}
			c.change(r)
			before := n.end(t)
			sent, err := n.SendWSMessage(t.Context(), r)
			requireCode(t, c.want, err)
			if c.want == codes.OK {
				require.NotEmpty(t, sent.GetMessageId())
			} else {
				require.Equal(t, before, n.end(t), "a refused message must not be published")
			}
		})
	}
}

// extraOf returns an object of so many bytes.
func extraOf(size int) []byte {
	return []byte(`{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}`)
}

func TestRefusedMessageTypeIsNamedAsItWasGiven(t *testing.T) {
	n := newNode(t, memory.Config{})
	for _, kind := range []int32{-1, 7, 99} {
		_, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(1), To: 2, Content: "x", MessageType: kind})
		require.ErrorContains(t, err, fmt.Sprintf("message_type %d", kind))
	}
}

func TestTextThatIsNotUTF8IsRefusedFromCallersInTheProcess(t *testing.T) {
	n := newNode(t, memory.Config{})
	for _, r := range []*millracev1.SendWSMessageRequest{
		{Sender: by(1), To: 2, Content: "\xff"},
		{Sender: by(1), To: 2, Content: "x", ClientMsgId: "\xff"},
	} {
		_, err := n.service.SendWSMessage(t.Context(), r)
		requireCode(t, codes.InvalidArgument, err)
	}
}

func TestSendIsTheRecordOfTheContract(t *testing.T) {
	n := newNode(t, memory.Config{})
	var record *message.Message
	n.bus.instead = func(topic string, msgs ...*message.Message) error {
		require.Equal(t, events.TopicMessages, topic)
		require.Len(t, msgs, 1)
		record = msgs[0]
		return nil
	}
	sent, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{
		Sender: &millracev1.Sender{User: 1002, UserType: "vip", Region: "eu"}, To: 1001, Content: "hello",
		ClientMsgId: "c1", CorrelationId: "r1",
	})
	require.NoError(t, err)
	require.Equal(t, events.MessageID(1002, "u:1001:1002", "c1"), sent.GetMessageId())
	require.Equal(t, "u:1001:1002", sent.GetConversation())
	require.Equal(t, message.Metadata{
		pubsub.KeyHeader: "u:1001:1002", "type": "new_message", "user_type": "vip", "region": "eu", "correlation_id": "r1",
	}, record.Metadata)

	var e events.Event
	require.NoError(t, json.Unmarshal(record.Payload, &e))
	require.Equal(t, events.Event{
		Type: events.NewMessage, Timestamp: sent.GetTimestamp(),
		Message: &events.Message{
			MessageID: sent.GetMessageId(), ClientMsgID: "c1", Conversation: "u:1001:1002", From: 1002, To: 1001,
			Content: "hello", MessageType: 1, Timestamp: sent.GetTimestamp(),
		},
	}, e)
}

func TestRepeatHasTheSameIDAndADrawnIDIsNew(t *testing.T) {
	n := newNode(t, memory.Config{})
	send := func(id string) string {
		sent, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{
			Sender: by(1), To: 2, Content: "x", ClientMsgId: id,
		})
		require.NoError(t, err)
		return sent.GetMessageId()
	}
	require.Equal(t, send("a"), send("a"))
	require.NotEqual(t, send("a"), send("b"))
	require.NotEqual(t, send(""), send(""))
}

func TestSendIsUnavailableWhenTheBrokerRefuses(t *testing.T) {
	n := newNode(t, memory.Config{Fail: func(string, *message.Message) error { return errors.New("no leader") }})
	_, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(1), To: 2, Content: "x"})
	requireCode(t, codes.Unavailable, err)
}

func TestRepeatedSendIsAnsweredWithTheTimestampOfTheMessageThatIsThere(t *testing.T) {
	n := newNode(t, memory.Config{})
	stored := said(1, 2, "a")
	stored.Message.ClientMsgID, stored.Message.Timestamp = "a", 5
	stored.Message.MessageID = events.MessageID(1, "u:1:2", "a")
	n.publish(t, stored)
	n.keepAll(t)
	timestamp := func(name string) int64 {
		sent, err := n.SendWSMessage(t.Context(), direct(name)[0])
		require.NoError(t, err)
		require.Equal(t, events.MessageID(1, "u:1:2", name), sent.GetMessageId())
		return sent.GetTimestamp()
	}
	eventually(t, func() bool { return timestamp("a") == 5 }) // once the store has answered

	first := timestamp("b")
	n.service.originals.sent.add(events.MessageID(1, "u:1:2", "b"), original{sentAt: first - 100})
	require.Equal(t, first-100, timestamp("b"), "it was accepted lately and need not be stored yet")
}

func TestNoSendAfterTheFirstOfTwoUsersWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, memory.Config{})
		send := func(i int) {
			_, err := n.SendWSMessage(t.Context(), direct(fmt.Sprint(i))[0])
			require.NoError(t, err)
		}
		send(0)
		n.store.hangs.Store(true)
		for range 2 {
			began := time.Now()
			for i := range 50 {
				send(i + 1)
			}
			require.Less(t, time.Since(began), time.Millisecond)
			time.Sleep(time.Hour)
		}
	})
}

package events

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// encodedAlike checks that the message stands on the topic and in its push as encoding/json would write it.
func encodedAlike(t *testing.T, m *Message) {
	t.Helper()
	event := Event{Type: NewMessage, Message: m, Timestamp: m.Timestamp}
	want, err := marshal(&event)
	require.NoError(t, err)
	got, err := encodeNewMessage(&event)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))

	if m.MessageID == "" {
		return // whoever reads a record gives its message an id
	}
	record := Record{Event: event, Position: Position{Partition: 12, Seq: 350}}
	want, err = (&Push{
		Type: NewMessage, Pos: "12:350", Conversation: m.Conversation, Seq: 350,
		Message: &PushMessage{
			MessageID: m.MessageID, ClientMsgID: m.ClientMsgID, From: m.From, To: m.To, GroupID: m.GroupID,
			Content: m.Content, MessageType: m.MessageType, Timestamp: m.Timestamp,
			Extra: m.Extra, ReplyTo: m.ReplyTo, Mentions: m.Mentions, Recalled: m.Recalled,
		},
	}).frame()
	require.NoError(t, err)
	got, err = newMessageFrame(&record)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestEveryMemberOfANewMessageIsEncoded(t *testing.T) {
	m := Message{Conversation: "u:1:2"}
	for i := range reflect.TypeFor[Message]().NumField() {
		field := reflect.ValueOf(&m).Elem().Field(i)
		switch {
		case field.Type() == reflect.TypeFor[Extra]():
			field.SetBytes([]byte(`{"a": [1,  "<&>"]}`))
		case field.Kind() == reflect.String:
			field.SetString("text")
		case field.Kind() == reflect.Bool:
			field.SetBool(true)
		case field.Kind() == reflect.Slice:
			field.Set(reflect.ValueOf([]int64{1, 2}))
		default:
			field.SetInt(int64(100 + i))
		}
		encodedAlike(t, &m)
	}
	require.NotZero(t, m.Recalled)
}

func TestExtraThatIsNoJSONIsNotEncoded(t *testing.T) {
	e := Event{Type: NewMessage, Message: &Message{Conversation: "u:1:2", Extra: Extra("{")}}
	_, err := encodeNewMessage(&e)
	require.Error(t, err)
	_, err = DeliveryOf(&Record{Event: e})
	require.Error(t, err)
}

func FuzzEncodeNewMessage(f *testing.F) {
	f.Add("hello", "9f", "1:2", int64(1), int64(2), int64(0))
	f.Add("", "", "", int64(0), int64(0), int64(0))
	f.Add("<\"ünïcode\"> & \\ \u2028\u2029", "\x00\x1f\x7f\n", "\xff\ufffd", int64(-1), int64(0), int64(1)<<62)
	f.Fuzz(func(t *testing.T, content, clientMsgID, conversation string, from, to, groupID int64) {
		encodedAlike(t, &Message{
			MessageID: clientMsgID, ClientMsgID: clientMsgID, Conversation: "u:" + conversation, From: from, To: to, GroupID: groupID, Content: content,
			Extra: Extra(`{}`), ReplyTo: content,
		})
	})
}

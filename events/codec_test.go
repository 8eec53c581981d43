package events

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestForeignRecordIsCompletedTheSameByEveryConsumer(t *testing.T) {
	const foreign = `{"type":"new_message","message":{"from":1002,"to":1001,"content":"hi","message_type":1,"timestamp":5},"timestamp":5}`
	pos := Position{Partition: 3, Seq: 9}
	first, err := Decode(TopicMessages, pos, []byte(foreign))
	require.NoError(t, err)
	require.Equal(t, "u:1001:1002", first.Message.Conversation)
	require.NotEmpty(t, first.Message.MessageID)
	require.Equal(t, first.Message.MessageID, first.EventID)

	again, err := Decode(TopicMessages, pos, []byte(foreign))
	require.NoError(t, err)
	require.Equal(t, first, again)

	elsewhere, err := Decode(TopicMessages, Position{Partition: 3, Seq: 10}, []byte(foreign))
	require.NoError(t, err)
	require.NotEqual(t, first.EventID, elsewhere.EventID)
}

func TestForeignClientMsgIDGivesTheIDThatASendWouldHave(t *testing.T) {
	e, err := Decode(TopicMessages, Position{}, []byte(
		`{"type":"new_message","message":{"from":1,"to":2,"client_msg_id":"c1","content":"","message_type":1,"timestamp":5},"timestamp":5}`))
	require.NoError(t, err)
	require.Equal(t, MessageID(1, "u:1:2", "c1"), e.Message.MessageID)
}

func TestUnknownTypeIsNoError(t *testing.T) {
	e, err := Decode(TopicMessages, Position{Seq: 1}, []byte(`{"type":"reaction_added","emoji":"x","timestamp":1}`))
	require.NoError(t, err)
	require.False(t, e.Type.Known())
	require.NotEmpty(t, e.EventID)
}

func TestUndecodableIsInvalid(t *testing.T) {
	message := func(m string) string { return `{"type":"new_message","timestamp":1,"message":{` + m + `}}` }
	for name, data := range map[string]string{
		"empty":                 "",
		"no JSON":               "hello",
		"array":                 `[1]`,
		"no type":               `{"timestamp":1}`,
		"no UTF-8":              "{\"type\":\"\xff\"}",
		"no UTF-8, unknown":     "{\"type\":\"reaction_added\",\"x\":\"\xff\"}",
		"type twice":            `{"type":"new_message","type":"message_read"}`,
		"deep nesting":          strings.Repeat(`{"a":`, 20000),
		"no message":            `{"type":"new_message","timestamp":1}`,
		"from 0":                message(`"to":2,"message_type":1`),
		"negative from":         message(`"from":-1,"to":2,"message_type":1`),
		"from above 2^53-1":     message(`"from":9007199254740992,"to":2,"message_type":1`),
		"from as text":          message(`"from":"1","to":2,"message_type":1`),
		"neither to nor group":  message(`"from":1,"message_type":1`),
		"both to and group":     message(`"from":1,"to":2,"group_id":3,"message_type":1`),
		"no message_type":       message(`"from":1,"to":2`),
		"another conversation":  message(`"from":1,"to":2,"message_type":1,"conversation":"u:1:3"`),
		"long message_id":       message(`"from":1,"to":2,"message_type":1,"message_id":"` + strings.Repeat("x", 65) + `"`),
		"too much content":      message(`"from":1,"to":2,"message_type":1,"content":"` + strings.Repeat("x", MaxContentBytes+1) + `"`),
		"edit of nothing":       `{"type":"message_edited","conversation":"u:1:2","seq":1,"by":1,"timestamp":1}`,
		"read by a stranger":    `{"type":"message_read","conversation":"u:1:2","user":3,"seq":1,"timestamp":1}`,
		"group of another name": `{"type":"member_joined","conversation":"g:1","group_id":2,"user":3,"by":3,"timestamp":1}`,
		"negative timestamp":    `{"type":"member_joined","conversation":"g:2","group_id":2,"user":3,"by":3,"timestamp":-1}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(TopicMessages, Position{}, []byte(data))
			require.Error(t, err)
			require.True(t, IsPermanent(err))
		})
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	_, err := Encode(&Event{Type: NewMessage, Message: &Message{From: 1}})
	require.True(t, IsPermanent(err))
	_, err = Encode(&Event{Type: "reaction_added"})
	require.True(t, IsPermanent(err))
}

func FuzzDecode(f *testing.F) {
	for _, e := range samples() {
		data, err := Encode(&e)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"type":"new_message","message":{"from":1,"to":2,"content":"x","message_type":1,"timestamp":1},"timestamp":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		pos := Position{Partition: 1, Seq: 2}
		e, err := Decode(TopicMessages, pos, data)
		if err != nil {
			require.True(t, IsPermanent(err), "%v", err)
			return
		}
		require.NotEmpty(t, e.EventID)
		_, err = DeliveryOf(&Record{Event: e, Position: pos})
		require.NoError(t, err)
		if !e.Type.Known() {
			return
		}
		encoded, err := Encode(&e)
		require.NoError(t, err)
		again, err := Decode(TopicMessages, pos, encoded)
		require.NoError(t, err)
		require.Equal(t, e.ConversationKey(), again.ConversationKey())
		require.Equal(t, e.EventID, again.EventID)
	})
}

func BenchmarkDecode(b *testing.B) {
	sample := samples()["new_message"]
	data, err := Encode(&sample)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(TopicMessages, Position{}, data); err != nil {
			b.Fatal(err)
		}
	}
}

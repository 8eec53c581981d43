package router

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
)

func valueOf(t *testing.T, content string) []byte {
	t.Helper()
	m := &events.Message{ClientMsgID: "c", Conversation: "u:1:2", From: 1, To: 2, Content: content, MessageType: 1, Timestamp: 1}
	m.MessageID = events.MessageID(m.From, m.Conversation, m.ClientMsgID)
	value, err := events.Encode(&events.Event{Type: events.NewMessage, Message: m, Timestamp: 1})
	require.NoError(t, err)
	return value
}

func TestRecordIsDecodedOnceForAllHandlers(t *testing.T) {
	d := newDecoder()
	at := events.Position{Partition: 3, Seq: 7}
	first, err := d.decode(events.TopicMessages, at, valueOf(t, "hello"))
	require.NoError(t, err)
	again, err := d.decode(events.TopicMessages, at, valueOf(t, "hello"))
	require.NoError(t, err)
	require.Same(t, first.Message, again.Message)

	for name, other := range map[string]struct {
		topic string
		at    events.Position
		value []byte
	}{
		"another value":     {events.TopicMessages, at, valueOf(t, "bye")},
		"another topic":     {"other", at, valueOf(t, "hello")},
		"another position":  {events.TopicMessages, events.Position{Partition: 3, Seq: 7 + decoderSlots}, valueOf(t, "hello")},
		"another partition": {events.TopicMessages, events.Position{Partition: 4, Seq: 7}, valueOf(t, "hello")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := d.decode(other.topic, other.at, other.value)
			require.NoError(t, err)
			want, err := events.Decode(other.topic, other.at, other.value)
			require.NoError(t, err)
			require.Equal(t, &want, got)
			require.NotSame(t, first.Message, got.Message)
		})
	}
}

func TestLargeAndInvalidRecordsAreNotKept(t *testing.T) {
	d := newDecoder()
	at := events.Position{Seq: 1}
	_, err := d.decode(events.TopicMessages, at, valueOf(t, strings.Repeat("x", maxShared)))
	require.NoError(t, err)
	_, err = d.decode(events.TopicMessages, at, []byte("garbage"))
	require.Error(t, err)
	for i := range d.slots {
		require.Nil(t, d.slots[i].Load())
	}
}

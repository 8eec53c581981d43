package bench

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/client/clienttest"
)

func TestBenchFramesAreSends(t *testing.T) {
	w := newWire("run1", 3, client.ToUser(1002), 100)
	var frame struct {
		ID   int64       `json:"id"`
		Send client.Send `json:"send"`
	}
	require.NoError(t, json.Unmarshal(w.message(nil, 41, 123456789), &frame))
	require.EqualValues(t, firstSend+41, frame.ID)
	require.Equal(t, client.ToUser(1002), frame.Send.Target)
	require.Equal(t, "run1-3-41", frame.Send.ClientMsgID)
	require.Len(t, frame.Send.Content, 100)
	require.True(t, strings.HasPrefix(frame.Send.Content, "run1 3 41 123456789 ."))
}

func TestBenchKnowsAnswersFromOtherFrames(t *testing.T) {
	w := newWire("run1", 3, client.ToUser(1002), 100)
	index, ok := w.answered([]byte(`{"id":43,"sent":{"message_id":"m"}}`))
	require.True(t, ok)
	require.EqualValues(t, 41, index)
	for _, text := range []string{`{"id":43,"error":{"code":"unavailable"}}`, `{"id":1,"sent":{}}`, `{"push":{}}`, `{"id":`, `{}`} {
		_, ok := w.answered([]byte(text))
		require.False(t, ok, text)
	}
}

// In whatever order the server writes the members of a push, the fast way to read it returns what the slow one returns.
func FuzzBenchReadsPushes(f *testing.F) {
	w := newWire("run1", 3, client.ToUser(1002), minBenchSize)
	content := "run1 3 41 123456789 ......"
	p := client.Push{Push: events.Push{
		Type: events.NewMessage, Pos: "1:349", Conversation: "u:1:2", Seq: 349, Message: &events.PushMessage{MessageID: "m", Content: content},
	}}
	f.Add([]byte(`{"push":` + clienttest.Encoded(p.Push) + `}`))
	f.Add([]byte(`{"push":{"message":{"content":"` + content + `"},"seq":349,"type":"new_message"}}`))
	f.Add([]byte(`{"push":{"type":"new_message","seq":349,"message":{"content":"run1 4 41 123456789 ."}}}`))
	f.Add([]byte(`{"push":{"type":"typing","from":7}}`))
	f.Add([]byte(`{"push":{"type":"new_message",`))
	f.Fuzz(func(t *testing.T, text []byte) {
		frame, err := client.Decode(text)
		if err != nil || frame.Push == nil || frame.Push.Message == nil || !json.Valid(text) {
			_, _, _, _ = w.pushed(text) // must not panic
			return
		}
		again := []byte(`{"push":` + clienttest.Encoded(frame.Push.Push) + `}`) // as the server writes it
		short, shortAt, shortOK, shortErr := w.pushed(again)
		long, longAt, longOK, longErr := w.read(frame.Push.Message.Content, frame.Push.Seq)
		if frame.Push.Type != events.NewMessage {
			return
		}
		require.Equal(t, longOK, shortOK)
		require.Equal(t, longErr, shortErr)
		require.Equal(t, long, short)
		require.Equal(t, longAt, shortAt)
	})
}

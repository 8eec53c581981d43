package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// wire is a connection of Alice's on which the test writes frames without waiting for answers.
type wire struct {
	t       *testing.T
	conn    *websocket.Conn
	answers map[int64]client.Frame
	lastID  int64
}

func dialWire(t *testing.T, url string) *wire {
	t.Helper()
	conn, response, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	t.Cleanup(func() { _ = conn.Close() })
	token, err := proof.Token(proof.Alice)(t.Context())
	require.NoError(t, err)
	w := &wire{t: t, conn: conn, answers: map[int64]client.Frame{}}
	require.NotNil(t, w.answer(w.write(fmt.Sprintf(`"connect":{"token":%q}`, token))).Connected)
	return w
}

// write sends a request and returns its id.
func (w *wire) write(request string) int64 {
	w.t.Helper()
	w.lastID++
	require.NoError(w.t, w.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":%d,%s}`, w.lastID, request)))
	return w.lastID
}

// answer reads until the answer to the request has come.
func (w *wire) answer(id int64) client.Frame {
	w.t.Helper()
	for {
		if f, ok := w.answers[id]; ok {
			return f
		}
		_, text, err := w.conn.ReadMessage()
		require.NoError(w.t, err)
		var f client.Frame
		require.NoError(w.t, json.Unmarshal(text, &f))
		w.answers[f.ID] = f
	}
}

// done requires that all the requests were answered with ok, sent or a group.
func (w *wire) done(ids ...int64) {
	w.t.Helper()
	for _, id := range ids {
		require.Nil(w.t, w.answer(id).Error)
	}
}

func edit(sent client.Sent, content string) string {
	return fmt.Sprintf(`"edit":{"conversation":%q,"message_id":%q,"content":%q}`, sent.Conversation, sent.MessageID, content)
}

func recall(sent client.Sent) string {
	return fmt.Sprintf(`"recall":{"conversation":%q,"message_id":%q}`, sent.Conversation, sent.MessageID)
}

func TestPipelinedChangesTakeEffectInTheOrderInWhichTheyWereSent(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	bob := proof.Join(t, d.url(), proof.Bob, nil)
	w := dialWire(t, d.url())
	sent := *w.answer(w.write(fmt.Sprintf(`"send":{"to":%d,"content":"0"}`, proof.Bob))).Sent

	var ids []int64
	for _, content := range proof.Numbered(1, 13) {
		ids = append(ids, w.write(edit(sent, content)))
	}
	w.done(ids...)
	for _, content := range proof.Numbered(1, 13) {
		require.Equal(t, content, bob.Sees(t, "message_edited").Content)
	}
	require.Equal(t, proof.Numbered(12, 13), contents(eventually(t, bob, sent.Conversation, 1)))

	ids = nil
	for _, content := range []string{"x", "y", "x"} {
		ids = append(ids, w.write(edit(sent, content)))
	}
	w.done(ids...)
	require.Equal(t, []string{"x"}, contents(eventually(t, bob, sent.Conversation, 1)))

	group := *w.answer(w.write(fmt.Sprintf(`"group_create":{"name":"g","members":[%d]}`, proof.Bob))).Group
	step := fmt.Sprintf(`{"group_id":%d,"user":%d}`, group.GroupID, proof.Bob)
	ids = nil
	for range 8 {
		ids = append(ids, w.write(`"group_remove":`+step), w.write(`"group_add":`+step))
	}
	w.done(ids...)
	info := *w.answer(w.write(fmt.Sprintf(`"group_info":{"group_id":%d}`, group.GroupID))).Group
	require.Equal(t, []int64{proof.Alice, proof.Bob}, info.Members)
}

// After a recall no edit is made or pushed, whether the two come over one connection or over two.
func TestAnEditAfterARecallIsNotFoundAndNotShown(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	bob := proof.Join(t, d.url(), proof.Bob, nil)
	one, other := dialWire(t, d.url()), dialWire(t, d.url())
	for i := range 20 {
		sent := *one.answer(one.write(fmt.Sprintf(`"send":{"to":%d,"content":"hello"}`, proof.Bob))).Sent
		recalling := one.write(recall(sent))
		editing := one
		if i%2 == 1 {
			one.done(recalling)
			editing = other
		}
		id := editing.write(edit(sent, "x"))
		one.done(recalling)
		require.Equal(t, client.NotFound, editing.answer(id).Error.Code)
	}
	one.done(one.write(fmt.Sprintf(`"send":{"to":%d,"content":"last"}`, proof.Bob)))
	recalled := 0
	for push := range bob.Seen() {
		require.NotEqual(t, events.MessageEdited, push.Type)
		if push.Type == events.MessageRecalled {
			recalled++
		}
		if push.Message != nil && push.Message.Content == "last" {
			break
		}
	}
	require.Equal(t, 20, recalled)
}

func TestReadBeyondTheLastMessageIsTakenAgainOnceThereAreMore(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	alice, bob := proof.Join(t, d.url(), proof.Alice, nil), proof.Join(t, d.url(), proof.Bob, nil)
	conversation := events.Direct(proof.Alice, proof.Bob)
	far := client.Read{Conversation: conversation, Seq: events.MaxID}
	require.NoError(t, bob.Do(t.Context(), far), "there is no message")
	for i := range 2 {
		sent := alice.Sends(t, client.ToUser(proof.Bob), "hello")
		seq := bob.Sees(t, "new_message").Seq
		for _, read := range []client.Read{far, far, {Conversation: conversation, Seq: 1}} {
			require.NoError(t, bob.Do(t.Context(), read))
		}
		mark := alice.Sees(t, "message_read")
		require.Equal(t, seq, mark.Seq)
		require.EqualValues(t, proof.Bob, mark.User)
		eventually(t, bob, sent.Conversation, i+1)
		list, err := bob.Conversations(t.Context(), client.Conversations{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, sent.Conversation, list.Conversations[0].Conversation)
		require.Zero(t, list.Conversations[0].Unread)
	}
	alice.Sends(t, client.ToUser(proof.Bob), "last")
	for push := range alice.Seen() {
		require.NotEqual(t, events.MessageRead, push.Type, "each mark is told once")
		if push.Message != nil && push.Message.Content == "last" {
			break
		}
	}
}

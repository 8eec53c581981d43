package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// witness stands between clients and gateways and holds every frame against the document, whose objects are closed for it.
type witness struct {
	t        *testing.T
	document *document

	mu   sync.Mutex
	seen map[string]bool // by message key
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	return &witness{t: t, document: readDocument(t, true), seen: map[string]bool{}}
}

// between returns the URL at which the gateway is reached past the witness until the test ends.
func (w *witness) between(url string) string {
	var relays sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		relays.Add(1)
		defer relays.Done()
		w.relay(rw, r, url)
	}))
	w.t.Cleanup(func() {
		server.Close()
		relays.Wait()
	})
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
}

// relay relays one connection until either side closes it.
func (w *witness) relay(rw http.ResponseWriter, r *http.Request, url string) {
	gateway, resp, err := websocket.DefaultDialer.DialContext(r.Context(), url, http.Header{"Sec-Websocket-Protocol": {client.Subprotocol}})
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	_ = resp.Body.Close() // it is empty
	upgrader := websocket.Upgrader{Subprotocols: []string{client.Subprotocol}}
	user, err := upgrader.Upgrade(rw, r, nil)
	if err != nil {
		_ = gateway.Close()
		return
	}
	c := &witnessed{witness: w, asked: map[string]asked{}}
	var both sync.WaitGroup
	both.Go(func() { pass(user, gateway, c.request) })
	both.Go(func() { pass(gateway, user, c.response) })
	both.Wait()
}

// pass passes on what comes, and at the end the close frame.
func pass(from, to *websocket.Conn, look func(text []byte)) {
	defer to.Close() //nolint:errcheck // it may be closed already
	for {
		kind, text, err := from.ReadMessage()
		if err != nil {
			var closed *websocket.CloseError
			if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
				_ = to.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(closed.Code, closed.Text))
			}
			return
		}
		look(text)
		if to.WriteMessage(kind, text) != nil {
			return
		}
	}
}

// witnessed is one connection.
type witnessed struct {
	*witness
	asked map[string]asked // by request id; the lock of the witness guards it
}

// asked is a request that is not answered yet: its verb, or none if the document knows no such frame.
type asked struct{ verb, text string }

func (c *witnessed) request(text []byte) {
	value := asJSON(c.t, text)
	keys := c.document.matching("socket", "request", value)
	frame := asked{text: string(text)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(keys) == 1 {
		frame.verb = strings.TrimPrefix(keys[0], "request.")
		c.seen[keys[0]] = true
	}
	c.asked[idOf(value)] = frame
}

// response holds a push or an answer against the document. Only a request that fits the document may be answered with
// anything but an error.
func (c *witnessed) response(text []byte) {
	value := asJSON(c.t, text)
	keys := append(c.document.matching("socket", "answer", value), c.document.matching("socket", "push", value)...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(keys) != 1 {
		c.t.Errorf("a frame that fits %v: %s", keys, text)
		return
	}
	c.seen[keys[0]] = true
	if strings.HasPrefix(keys[0], "push.") {
		return
	}
	request := c.asked[idOf(value)]
	delete(c.asked, idOf(value))
	may := slices.ContainsFunc(c.document.Operations[request.verb].Reply.Messages, func(reply map[string]string) bool {
		return reply["$ref"] == "#/channels/socket/messages/"+keys[0]
	})
	if !may && (request.verb != "" || keys[0] != "answer.error") {
		c.t.Errorf("%s is answered by %s, which is not documented", request.text, text)
	}
}

// idOf returns the id in a frame, in decimal.
func idOf(frame any) string {
	object, _ := frame.(map[string]any)
	id, _ := object["id"].(interface{ String() string })
	if id == nil {
		return ""
	}
	return id.String()
}

func (w *witness) see(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[key] = true
}

// sees waits until a frame of the message has passed.
func (w *witness) sees(key string) {
	w.t.Helper()
	proof.Await(w.t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.seen[key]
	}, key)
}

// A session that uses all of the protocol, in which every frame and every record must be as documented, and every message of
// the document must be seen.
func TestEndToEndEveryFrameAndRecordIsAsDocumented(t *testing.T) {
	besideOthers(t)
	w := newWitness(t)
	dir := t.TempDir()
	d := startDev(t, dir)
	url := w.between(d.url())
	a, b := proof.Join(t, url, proof.Alice, nil), proof.Join(t, url, proof.Bob, nil)
	ctx, beginning := t.Context(), b.Cursor()
	do := func(u *proof.User, requests ...client.Request) {
		t.Helper()
		for _, r := range requests {
			require.NoError(t, u.Do(ctx, r))
		}
	}

	token, err := proof.Token(proof.Alice)(ctx)
	require.NoError(t, err)
	do(a, client.Ping{}, client.Refresh{Token: token})
	sent, err := a.Send(ctx, client.Send{
		Target: client.ToUser(proof.Bob), Content: "hello", Extra: events.Extra(`{"n":1.50}`), ReplyTo: "m", Mentions: []int64{proof.Bob},
	})
	require.NoError(t, err)
	seq := b.Sees(t, "new_message").Seq
	stored := a.Sends(t, client.ToUser(proof.Bob), "to be recalled")
	name := sent.Conversation
	eventually(t, a, name, 2)
	do(a, client.Edit{Conversation: name, MessageID: sent.MessageID, Content: "hello!", Extra: events.Extra(`{}`)},
		client.Recall{Conversation: name, MessageID: stored.MessageID}, client.Typing{Target: client.ToUser(proof.Bob)})
	do(b, client.Read{Conversation: name, Seq: seq}, client.Settings{Conversation: name, Settings: events.Settings{Pinned: new(true)}})
	gone := b.Sees(t, "message_recalled")
	at, err := events.ParsePosition(gone.Pos)
	require.NoError(t, err)
	moderated, err := events.Encode(&events.Event{
		Type: events.MessageModerated, Conversation: name, MessageID: stored.MessageID, MessageSeq: gone.Seq, User: proof.Alice, Reason: "why", Timestamp: 1,
	})
	require.NoError(t, err)
	require.True(t, produceForeign(t, d.brokers, kgo.NoCompression(), &kgo.Record{
		Topic: events.TopicMessages, Partition: at.Partition, Key: []byte(name), Value: moderated,
	}))
	require.Equal(t, "why", a.Sees(t, "message_moderated").Reason)

	group, err := a.Group(ctx, client.GroupCreate{Name: "friends", Members: []int64{proof.Bob}, Join: events.JoinOpen})
	require.NoError(t, err)
	carol := proof.Join(t, url, proof.Carol, nil)
	for _, step := range []struct {
		by      *proof.User
		request client.Request
	}{
		{carol, client.GroupJoin{GroupID: group.GroupID}},
		{carol, client.GroupLeave{GroupID: group.GroupID}},
		{a, client.GroupAdd{GroupID: group.GroupID, User: proof.Carol}},
		{a, client.GroupRemove{GroupID: group.GroupID, User: proof.Carol}},
		{a, client.GroupInfo{GroupID: group.GroupID}},
		{a, client.GroupRename{GroupID: group.GroupID, Name: "old friends"}},
		{a, client.GroupMute{GroupID: group.GroupID, User: proof.Bob, Until: 9_999_999_999}},
		{a, client.GroupMute{GroupID: group.GroupID, Until: 9_999_999_999}},
		{a, client.GroupRole{GroupID: group.GroupID, User: proof.Bob, Role: events.RoleAdmin}},
	} {
		_, err := step.by.Group(ctx, step.request)
		require.NoError(t, err)
	}
	require.NoError(t, carol.Close())
	said := a.Sends(t, client.ToGroup(group.GroupID), "hello")
	do(b, client.Typing{Target: client.ToGroup(group.GroupID)})
	page, err := b.Conversations(ctx, client.Conversations{Limit: 1})
	require.NoError(t, err)
	_, err = b.Conversations(ctx, client.Conversations{Next: page.Next})
	require.NoError(t, err)
	_, err = b.Readers(ctx, client.Readers{Conversation: said.Conversation, Seq: 1})
	require.NoError(t, err)
	browser := client.PushSubscribe{Endpoint: "https://push.example.com/1", Keys: client.PushKeys{
		// The browser's keys of the example in RFC 8291.
		P256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", Auth: "BTBZMqHH6r4Tts7J_aSIgg",
	}}
	do(b, browser, client.PushUnsubscribe{Endpoint: browser.Endpoint})
	do(b, client.Block{User: proof.Carol}, client.Unblock{User: proof.Carol})
	_, err = b.Blocked(ctx)
	require.NoError(t, err)
	_, err = a.Group(ctx, client.GroupDissolve{GroupID: group.GroupID})
	require.NoError(t, err)
	_, err = a.Send(ctx, client.Send{Target: client.ToGroup(group.GroupID), Content: "hello?"})
	require.ErrorIs(t, err, &client.Error{Code: client.NotFound})
	_, err = a.Send(ctx, client.Send{Target: client.ToUser(proof.Bob)})
	require.ErrorIs(t, err, &client.Error{Code: client.InvalidArgument})
	a.Online(t, proof.Bob)
	require.NoError(t, b.Close())
	w.sees("push.user_offline")
	back := proof.Join(t, url, proof.Bob, beginning)
	w.sees("push.user_online")
	recalled := map[string]bool{}
	for range 3 { // that of the group among them, in any order
		m := back.Sees(t, "new_message").Message
		recalled[m.MessageID] = m.Recalled
	}
	require.Equal(t, map[string]bool{sent.MessageID: false, stored.MessageID: true, said.MessageID: false}, recalled)
	_, err = back.History(ctx, client.History{Conversation: name})
	require.NoError(t, err)
	proof.Await(t, func() bool { return count(t, d.brokers, events.TopicUsers) >= 6 }, "three have come, Carol has gone, and was blocked")
	notice := &millracev1.SendNoticeRequest{Content: "hello", Extra: []byte(`{}`), Users: []int64{proof.Alice}}
	_, err = d.operator(t).SendNotice(ctx, notice)
	require.NoError(t, err)
	a.Sees(t, "system_notice")
	d.asks(t, 200, "GET", "/v1/handlers", "", nil) // is recorded
	_, err = d.operator(t).RevokeTokens(ctx, &millracev1.RevokeTokensRequest{User: proof.Carol})
	require.NoError(t, err)
	w.records(d.brokers)
	for _, u := range []*proof.User{a, back} {
		require.NoError(t, u.Close())
	}
	d.stop()

	// What only the store can give, and it is down, follows later.
	var down atomic.Bool
	down.Store(true)
	d = startDevWith(t, dir, switched(&down))
	proof.Join(t, w.between(d.url()), proof.Bob, beginning)
	down.Store(false)
	w.sees("push.complete")
	for key := range w.document.payloads {
		w.sees(key)
	}
}

// records holds all records of the topics against the document, and then one that it has had poisoned.
func (w *witness) records(brokers []string) {
	w.t.Helper()
	headers := w.document.schema(w.t, "schemas/RecordHeaders")
	for _, topic := range []string{events.TopicMessages, events.TopicGroups, events.TopicUsers, events.TopicSystem} {
		for _, r := range consume(w.t, brokers, topic, count(w.t, brokers, topic)) {
			keys := w.document.matching(topic, "event", asJSON(w.t, r.Value))
			require.Len(w.t, keys, 1, "%s: %s", topic, r.Value)
			require.NoError(w.t, headers.Validate(headersOf(r)))
			w.see(keys[0])
		}
	}
	bad := &kgo.Record{Topic: events.TopicMessages, Key: []byte("u:1:2"), Value: []byte(`{"type":"new_message"}`)}
	require.True(w.t, produceForeign(w.t, brokers, kgo.NoCompression(), bad))
	headers = w.document.schema(w.t, "schemas/PoisonHeaders")
	for _, r := range consume(w.t, brokers, events.PoisonTopic(events.TopicMessages), 1) {
		require.NoError(w.t, headers.Validate(headersOf(r)))
		w.see("poison")
	}
}

// count returns how many records the topic has.
func count(t *testing.T, brokers []string, topic string) int {
	t.Helper()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer kafka.Close()
	ends, err := kadm.NewClient(kafka).ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	require.NoError(t, ends.Error())
	sum := 0
	ends.Each(func(o kadm.ListedOffset) { sum += int(o.Offset) })
	return sum
}

func headersOf(r *kgo.Record) map[string]any {
	headers := map[string]any{}
	for _, h := range r.Headers {
		headers[h.Key] = string(h.Value)
	}
	return headers
}

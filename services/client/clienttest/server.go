// Package clienttest has a server in memory to test clients against.
package clienttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"millrace/events"
	"millrace/services/client"
)

// Fake is a server in memory that keeps every promise, unless Deliver, Keep or Refuse make it break one.
type Fake struct {
	*httptest.Server
	// Deliver returns what a user is pushed instead of the message that was just accepted.
	Deliver func(user int64, m client.Message) []client.Message
	// Keep returns the history of a conversation instead of what is stored.
	Keep func(stored []client.Message) []client.Message
	// Refuse returns the error code for a send, or an empty string to accept it.
	Refuse func(content string) string
	// Answer answers the verbs that the fake does not know. Without it the answer is ok.
	Answer func(verb string, body json.RawMessage) string

	mu      sync.Mutex
	seq     int64
	users   map[int64][]*fakeConn
	Stored  map[string][]client.Message
	Reads   []client.Read
	conns   sync.WaitGroup
	Refused map[string]bool
}

// fakeConn writes its queue in a goroutine of its own, so that nobody waits for a client.
type fakeConn struct {
	ws   *websocket.Conn
	wake *sync.Cond
	out  [][]byte
	done bool
}

// New starts a server that ends with the test.
func New(t testing.TB) *Fake {
	f := &Fake{users: map[int64][]*fakeConn{}, Stored: map[string][]client.Message{}, Refused: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /dev/token", func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			User int64 `json:"user"`
		}
		if json.NewDecoder(r.Body).Decode(&ask) == nil {
			fmt.Fprintf(w, `{"token":"%d"}`, ask.User)
		}
	})
	mux.HandleFunc("/ws", f.serve)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		f.CutAll()
		f.Close()
		f.conns.Wait()
	})
	return f
}

// WebSocket returns the URL for clients.
func (f *Fake) WebSocket() string { return strings.Replace(f.URL, "http://", "ws://", 1) + "/ws" }

// CutAll breaks every connection.
func (f *Fake) CutAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conns := range f.users {
		for _, c := range conns {
			_ = c.ws.Close()
		}
	}
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	f.conns.Add(1)
	defer f.conns.Done()
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &fakeConn{ws: ws, wake: sync.NewCond(&f.mu)}
	var writer sync.WaitGroup
	writer.Go(func() { f.write(c) })
	var user int64
	defer func() {
		f.mu.Lock()
		c.done = true
		c.wake.Signal()
		f.users[user] = slices.DeleteFunc(f.users[user], func(o *fakeConn) bool { return o == c })
		f.mu.Unlock()
		_ = ws.Close()
		writer.Wait()
	}()
	for {
		_, text, err := ws.ReadMessage()
		if err != nil {
			return
		}
		var frame map[string]json.RawMessage
		if json.Unmarshal(text, &frame) != nil {
			return
		}
		id := string(frame["id"])
		delete(frame, "id")
		for verb, body := range frame {
			f.mu.Lock()
			f.handle(c, &user, id, verb, body)
			f.mu.Unlock()
		}
	}
}

func (f *Fake) write(c *fakeConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		for len(c.out) == 0 && !c.done {
			c.wake.Wait()
		}
		if c.done {
			return
		}
		out := c.out
		c.out = nil
		f.mu.Unlock()
		for _, text := range out {
			_ = c.ws.WriteMessage(websocket.TextMessage, text)
		}
		f.mu.Lock()
	}
}

func (c *fakeConn) push(text string) {
	c.out = append(c.out, []byte(text))
	c.wake.Signal()
}

func (f *Fake) handle(c *fakeConn, user *int64, id, verb string, body json.RawMessage) {
	switch verb {
	case "connect":
		var r client.Connect
		_ = json.Unmarshal(body, &r)
		*user, _ = strconv.ParseInt(r.Token, 10, 64)
		cursor := r.Cursor
		if cursor == nil {
			cursor = client.Cursor{0: f.seq}
		}
		c.push(fmt.Sprintf(`{"id":%s,"connected":{"user":%d,"session":"s","cursor":%s,"recovered":true,"complete":true,"ping_seconds":25}}`,
			id, *user, Encoded(cursor)))
		f.users[*user] = append(f.users[*user], c)
		for conversation, messages := range f.Stored {
			for _, m := range messages {
				if parsed, _ := events.ParseConversation(conversation); m.Seq > cursor[0] && (parsed.Has(*user) || parsed.GroupID != 0) {
					c.push(pushOf(conversation, m))
				}
			}
		}
	case "send":
		var s client.Send
		_ = json.Unmarshal(body, &s)
		f.send(c, *user, id, s)
	case "history":
		var h client.History
		_ = json.Unmarshal(body, &h)
		c.push(fmt.Sprintf(`{"id":%s,"messages":%s}`, id, Encoded(f.page(h))))
	case "read":
		var r client.Read
		_ = json.Unmarshal(body, &r)
		f.Reads = append(f.Reads, r)
		c.push(fmt.Sprintf(`{"id":%s,"ok":{}}`, id))
	default:
		result := `"ok":{}`
		if f.Answer != nil {
			result = f.Answer(verb, body)
		}
		c.push(fmt.Sprintf(`{"id":%s,%s}`, id, result))
	}
}

func (f *Fake) send(c *fakeConn, from int64, id string, s client.Send) {
	if f.Refuse != nil {
		if code := f.Refuse(s.Content); code != "" {
			c.push(fmt.Sprintf(`{"id":%s,"error":{"code":"%s","message":"try \u001b[31m again"}}`, id, code))
			return
		}
	}
	conversation := events.Group(s.GroupID)
	if s.GroupID == 0 {
		conversation = events.Direct(from, s.To)
	}
	m := client.Message{PushMessage: events.PushMessage{
		MessageID: events.MessageID(from, conversation, s.ClientMsgID), ClientMsgID: s.ClientMsgID, From: from, To: s.To,
		GroupID: s.GroupID, Content: s.Content, MessageType: 1, Timestamp: 1642678800,
		Extra: s.Extra, ReplyTo: s.ReplyTo, Mentions: s.Mentions,
	}}
	stored := f.Stored[conversation]
	if !slices.ContainsFunc(stored, func(o client.Message) bool { return o.MessageID == m.MessageID }) {
		f.seq++
		m.Seq = f.seq
		f.Stored[conversation] = append(stored, m)
		for user, conns := range f.users {
			if s.GroupID == 0 && user != from && user != s.To {
				continue
			}
			pushed := []client.Message{m}
			if f.Deliver != nil {
				pushed = f.Deliver(user, m)
			}
			for _, conn := range conns {
				for _, m := range pushed {
					conn.push(pushOf(conversation, m))
				}
			}
		}
	}
	c.push(fmt.Sprintf(`{"id":%s,"sent":{"message_id":"%s","conversation":"%s","timestamp":1642678800}}`, id, m.MessageID, conversation))
}

func (f *Fake) page(h client.History) client.Page {
	all := f.Stored[h.Conversation]
	if f.Keep != nil {
		all = f.Keep(all)
	}
	limit := h.Limit
	if limit == 0 {
		limit = 50
	}
	page := client.Page{Conversation: h.Conversation, Messages: []client.Message{}}
	for _, m := range all {
		if (h.BeforeSeq == 0 || m.Seq < h.BeforeSeq) && (h.AfterSeq == nil || m.Seq > *h.AfterSeq) {
			page.Messages = append(page.Messages, m)
		}
	}
	if n := len(page.Messages); n > limit {
		page.More = true
		if h.AfterSeq != nil {
			page.Messages = page.Messages[:limit]
		} else {
			page.Messages = page.Messages[n-limit:]
		}
	}
	return page
}

func pushOf(conversation string, m client.Message) string {
	return `{"push":` + Encoded(events.Push{
		Type: events.NewMessage, Pos: events.Position{Seq: m.Seq}.String(), Conversation: conversation, Seq: m.Seq, Message: &m.PushMessage,
	}) + `}`
}

// Encoded returns the value as JSON.
func Encoded(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Changed calls do while the server is locked.
func (f *Fake) Changed(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

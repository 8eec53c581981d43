package connect_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/connect"
)

func TestWhatClosesAConnection(t *testing.T) {
	text := func(frames ...string) func(*client) {
		return func(c *client) {
			for _, f := range frames {
				c.send("%s", f)
			}
		}
	}
	connected := `{"id":1,"connect":{"token":"1001"}}`
	for name, test := range map[string]struct {
		do   func(*client)
		code int
	}{
		"a frame before connect":         {text(`{"id":1,"ping":{}}`), 4001},
		"garbage before connect":         {text(`hello`), 4001},
		"a bad token":                    {text(`{"id":1,"connect":{"token":"nobody"}}`), 4001},
		"a token nobody can judge":       {text(`{"id":1,"connect":{"token":"unknown"}}`), 1013},
		"no connect in time":             {func(*client) {}, 4001},
		"an expired token":               {func(c *client) { c.send(`{"id":1,"connect":{"token":"1001@%d"}}`, time.Now().UnixMilli()) }, 4003},
		"a binary message":               {func(c *client) { _ = c.conn.WriteMessage(websocket.BinaryMessage, []byte(connected)) }, 1003},
		"text that is not UTF-8":         {text(connected, "{\"id\":2,\"ping\":{\"x\":\"\xff\"}}"), 1007},
		"a frame over 64 KiB":            {text(connected, `{"id":2,"send":{"content":"`+strings.Repeat("x", 64<<10)+`"}}`), 1009},
		"a long frame in many fragments": {fragments, 1009},
		"a frame that breaks RFC 6455":   {func(c *client) { _, _ = c.conn.NetConn().Write([]byte{0xff, 0x80, 0, 0, 0, 0}) }, 1002},
		"a close frame of one byte": {func(c *client) {
			_ = c.conn.WriteControl(websocket.CloseMessage, []byte("x"), time.Now().Add(patience))
		}, 1002},
		"a length longer than needed":     {func(c *client) { _, _ = c.conn.NetConn().Write([]byte{0x81, 0xfe, 0, 1, 0, 0, 0, 0, '{'}) }, 1002},
		"more frames than anybody needs":  {flood(websocket.TextMessage, `{"id":2,"ping":{}}`), 4029},
		"more pings than anybody needs":   {flood(websocket.PingMessage, ""), 4029},
		"more garbage than anybody needs": {flood(websocket.TextMessage, "["), 4029},
		"the client's own close": {func(c *client) {
			_ = c.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(patience))
		}, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSimple(t, connect.Config{ConnectTimeout: 300 * time.Millisecond, SendRate: 20})
			c := s.dial()
			test.do(c)
			code, reason := c.closedWith()
			require.Equal(t, test.code, code)
			require.True(t, reason != "" || code == 1000, "a forced close tells why")
		})
	}
}

func fragments(c *client) {
	w, err := c.conn.NextWriter(websocket.TextMessage)
	require.NoError(c.t, err)
	for range 100 {
		if _, err := w.Write([]byte(strings.Repeat("x", 1<<10))); err != nil {
			return
		}
	}
	_ = w.Close()
}

// A user that asks for too much gets errors on a connection that goes on, over however many connections it spreads its
// requests.
func TestRequestsOverTheUsersRateAreRefusedAndCounted(t *testing.T) {
	metrics := prometheus.NewRegistry()
	s := startSimple(t, connect.Config{SendRate: 10_000, Metrics: metrics})
	first, _ := s.connect(1001)
	second, _ := s.connect(1001)
	for verb, body := range map[string]string{
		"typing": `{"to":1002}`, "presence": `{"users":[1002]}`, "history": `{"conversation":"u:1001:1002"}`, "group_join": `{"group_id":7}`,
	} {
		for _, c := range []*client{first, second} {
			refusals := 0
			for refusals == 0 {
				for i := range 500 {
					c.send(`{"id":%d,"%s":%s}`, i+1, verb, body)
				}
				for range 500 {
					if f := c.read(); f.Error != nil && f.Error.Code == "rate_limited" {
						require.Contains(t, f.Error.Message, "a second of one user")
						refusals++
					}
				}
			}
		}
	}
	counted := map[string]float64{}
	families, err := metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "millrace_rate_limited_total" {
			for _, m := range family.GetMetric() {
				counted[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	for _, kind := range []string{"signals", "queries", "changes"} {
		require.Positive(t, counted[kind], kind)
	}
}

func TestAConnectionTooManyOfAUserIsClosed(t *testing.T) {
	s := startSimple(t, connect.Config{UserConnections: 2})
	s.connect(1001)
	s.connect(1001)
	c := s.dial()
	c.send(`{"id":1,"connect":{"token":"1001"}}`)
	require.Equal(t, "rate_limited", c.read().Error.Code)
	code, reason := c.closedWith()
	require.Equal(t, 4029, code)
	require.Contains(t, reason, "at most 2")
	s.connect(1002)
}

// flood writes until the connection is closed.
func flood(kind int, text string) func(*client) {
	return func(c *client) {
		c.send(`{"id":1,"connect":{"token":"1001"}}`)
		go func() {
			var err error
			for err == nil {
				err = c.conn.WriteMessage(kind, []byte(text))
			}
		}()
	}
}

func TestBadFramesAreRefusedAndTheConnectionGoesOn(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connect(1001)
	for frame, id := range map[string]int64{
		`hello`:                               0,
		`[1]`:                                 0,
		`null`:                                0,
		`{"ping":{}}`:                         0,
		`{"id":0,"ping":{}}`:                  0,
		`{"id":-1,"ping":{}}`:                 0,
		`{"id":1.5,"ping":{}}`:                0,
		`{"id":"7","ping":{}}`:                0,
		`{"id":9007199254740992,"ping":{}}`:   0,
		`{"id":7}`:                            7,
		`{"id":7,"dance":{}}`:                 7,
		`{"id":7,"Ping":{}}`:                  7,
		`{"id":7,"ping":{},"read":{}}`:        7,
		`{"id":7,"ping":[]}`:                  7,
		`{"id":7,"presence":{"users":[0]}}`:   7,
		`{"id":7,"connect":{"token":"1001"}}`: 7,
		`{"id":7,"send":{"content":"x"}}`:     7,
		`{"id":7,"send":{"to":1,"group_id":2,"content":"x"}}`:              7,
		`{"id":7,"send":{"to":-1,"content":"x"}}`:                          7,
		`{"id":7,"send":{"to":"1","content":"x"}}`:                         7,
		`{"id":7,"send":{"to":9007199254740992,"content":"x"}}`:            7,
		`{"id":7,"send":{"to":1,"content":"x","message_type":-1}}`:         7,
		`{"id":7,"typing":{}}`:                                             7,
		`{"id":7,"block":{}}`:                                              7,
		`{"id":7,"block":{"user":1001}}`:                                   7,
		`{"id":7,"block":{"user":"1002"}}`:                                 7,
		`{"id":7,"unblock":{"user":9007199254740992}}`:                     7,
		fmt.Sprintf(`{"id":7,"send":{"to":1,"client_msg_id":"%065d"}}`, 0): 7,
	} {
		c.send("%s", frame)
		f := c.read()
		require.NotNil(t, f.Error, "%s: %s", frame, f.raw)
		require.Equal(t, "invalid_argument", f.Error.Code, frame)
		require.Equal(t, id, f.ID, frame)
	}
	c.send(`{"id":8,"send":{"to":1,"content":"%s"}}`, strings.Repeat("x", 32<<10+1))
	require.Equal(t, "too_large", c.read().Error.Code)
	c.send(`{"id":9,"ping":{"unknown":1},"unknown":[]}`)
	require.NotNil(t, c.read().Pong, "unknown members are ignored")
}

func TestAfterARefusedConnectAnotherIsAccepted(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c := s.dial()
	for _, cursor := range []string{`{"x":1}`, `{"0":-1}`, `{"-1":1}`, `{"0":9007199254740992}`, `{"0":1.5}`, `7`, `{"99999999999":1}`} {
		c.send(`{"id":1,"connect":{"token":"1001","cursor":%s}}`, cursor)
		f := c.read()
		require.NotNil(t, f.Error, f.raw)
		require.Equal(t, "invalid_argument", f.Error.Code, cursor)
	}
	c.send(`{"id":2,"connect":{"token":"1001","cursor":{}}}`)
	require.NotNil(t, c.read().Connected)
}

func TestFramesSentWithConnectAreAnsweredInTurn(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c := s.dial()
	c.send(`{"id":1,"connect":{"token":"1001"}}`)
	for id := 2; id < 50; id++ {
		c.send(`{"id":%d,"ping":{}}`, id)
	}
	require.NotNil(t, c.read().Connected)
	for id := 2; id < 50; id++ {
		require.Equal(t, int64(id), c.read().ID)
	}
}

func TestTheHandshake(t *testing.T) {
	s := startSimple(t, connect.Config{AllowedOrigins: []string{"https://chat.example.org"}})
	host := strings.TrimPrefix(s.url, "ws://")
	for origin, status := range map[string]int{
		"":                         http.StatusSwitchingProtocols,
		"http://" + host:           http.StatusSwitchingProtocols,
		"https://chat.example.org": http.StatusSwitchingProtocols,
		"https://evil.example.org": http.StatusForbidden,
		"null":                     http.StatusForbidden,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, response, err := websocket.DefaultDialer.DialContext(t.Context(), s.url, header)
		require.Equal(t, status, response.StatusCode, origin)
		_ = response.Body.Close()
		if err == nil {
			require.NoError(t, conn.Close())
		}
	}
	for asked, got := range map[string]string{"": "", connect.Subprotocol: connect.Subprotocol, "other, " + connect.Subprotocol: connect.Subprotocol, "other; " + connect.Subprotocol: connect.Subprotocol} {
		header := http.Header{}
		if asked != "" {
			for line := range strings.SplitSeq(asked, "; ") {
				header.Add("Sec-WebSocket-Protocol", line)
			}
		}
		c := s.dial(header)
		require.Equal(t, got, c.conn.Subprotocol(), asked)
		c.send(`{"id":1,"connect":{"token":"1001"}}`)
		require.NotNil(t, c.read().Connected, "the protocol is spoken whatever was asked")
	}
}

func TestAWebSocketNeedsHTTP11(t *testing.T) {
	s := startSimple(t, connect.Config{})
	address := strings.TrimPrefix(s.url, "ws://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", address)
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusBadRequest, answer.StatusCode)
}

// Many encoders escape everything that is not ASCII; content of the greatest length must fit all the same.
func TestContentFitsHoweverItIsEscaped(t *testing.T) {
	s := startSimple(t, connect.Config{})
	c, _ := s.connect(1001)
	for id, escaped := range []string{`\u0001`, `\u00e9`, `\u4e2d`, `\ud83d\ude00`} {
		var one string
		require.NoError(t, json.Unmarshal([]byte(`"`+escaped+`"`), &one))
		c.send(`{"id":%d,"send":{"to":1002,"content":"%s"}}`, id+1, strings.Repeat(escaped, events.MaxContentBytes/len(one)))
		for f := c.read(); ; f = c.read() {
			if f.ID != 0 {
				require.NotNil(t, f.Sent, f.raw)
				break
			}
		}
	}
}

func TestASlowReaderIsClosedAndOthersAreUnaffected(t *testing.T) {
	s := startSimple(t, connect.Config{OutboxBytes: 256 << 10, WriteTimeout: patience, CloseTimeout: patience})
	slow, _ := s.connect(1001)
	fast, _ := s.connect(1002)
	s.w.append(s.w.membership(events.GroupCreated, 7, 1001, 1001, 1002))
	require.Equal(t, "group_created", fast.read().Push.Type)
	content := strings.Repeat("x", 30<<10)
	for n := range 150 { // 14 MB: more than socket buffers take
		s.w.tell(1001, 7, fmt.Sprint(n, " ", content))
		fast.pushed(fmt.Sprint(n, " ", content))
	}
	code, _ := slow.closedWith()
	require.Equal(t, 4008, code)
}

func TestDrainAnswersSendsThenCloses(t *testing.T) {
	s := startSimple(t, connect.Config{})
	release := make(chan struct{})
	s.message.hold = release
	c, _ := s.connect(1001)
	c.send(`{"id":2,"send":{"to":1002,"content":"hello"}}`)
	require.Eventually(t, func() bool { return s.message.batches.Load() == 1 }, patience, time.Millisecond)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.gateway.Drain(t.Context())
	}()
	require.Eventually(t, func() bool {
		conn, response, err := websocket.DefaultDialer.DialContext(t.Context(), s.url, nil)
		if err == nil {
			_ = conn.Close()
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusServiceUnavailable
	}, patience, time.Millisecond)
	close(release)
	for f := c.read(); f.Sent == nil; f = c.read() {
		require.NotNil(t, f.Push, f.raw)
	}
	code, _ := c.closedWith()
	require.Equal(t, 1001, code)
	<-drained
}

func TestAServerThatCannotConnectASessionSaysSo(t *testing.T) {
	r := start(t, connect.Config{AnswerTimeout: 300 * time.Millisecond}, nil, nil)
	c := r.dial()
	c.send(`{"id":1,"connect":{"token":"1001"}}`)
	f := c.read()
	require.NotNil(t, f.Error, f.raw)
	require.Equal(t, "unavailable", f.Error.Code)
	code, _ := c.closedWith()
	require.Equal(t, 1013, code)
}

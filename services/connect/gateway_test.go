package connect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"millrace/infra/auth"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// tokens are "user" or "user@unix-milliseconds" of their expiry.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string) (auth.Identity, error) {
	user, expires, _ := strings.Cut(token, "@")
	id, err := strconv.ParseInt(user, 10, 64)
	if err != nil {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	identity := auth.Identity{User: id, UserType: "member", Region: "eu"}
	if ms, err := strconv.ParseInt(expires, 10, 64); err == nil {
		identity.Expires = time.UnixMilli(ms)
	}
	return identity, nil
}

// serve runs a gRPC server in memory and answers a connection to it.
func serve(t testing.TB, register func(*grpc.Server)) connect.Node {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	register(server)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served
	})
	return connect.Node{Name: "node", Conn: conn}
}

func serveMessages(t testing.TB, n millracev1.MessageServiceServer) connect.Node {
	return serve(t, func(s *grpc.Server) { millracev1.RegisterMessageServiceServer(s, n) })
}

func servePushes(t testing.TB, n millracev1.PushServiceServer) connect.Node {
	return serve(t, func(s *grpc.Server) { millracev1.RegisterPushServiceServer(s, n) })
}

// rig is a gateway with what it needs.
type rig struct {
	t       testing.TB
	gateway *connect.Gateway
	url     string
}

func start(t testing.TB, cfg connect.Config, messages, pushes []connect.Node) *rig {
	t.Helper()
	g := connect.New(cfg, tokens{}, messages, pushes, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx) }()
	server := httptest.NewServer(g)
	t.Cleanup(func() {
		draining, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		g.Drain(draining)
		cancel()
		require.NoError(t, <-ran)
		server.Close()
	})
	return &rig{t: t, gateway: g, url: "ws" + strings.TrimPrefix(server.URL, "http")}
}

// simple is a world with one node of each kind and a gateway.
type simple struct {
	*rig
	w       *world
	message *messageNode
	push    *pushNode
}

func startSimple(t testing.TB, cfg connect.Config) *simple {
	w := newWorld(4)
	s := &simple{w: w, message: &messageNode{w: w}, push: w.newPushNode(0, 1, 2, 3)}
	s.rig = start(t, cfg, []connect.Node{serveMessages(t, s.message)}, []connect.Node{servePushes(t, s.push)})
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(s.push.attached) == 1
	}, patience, time.Millisecond, "the gateway attaches")
	return s
}

// client is a WebSocket client that reads by hand.
type client struct {
	t    testing.TB
	conn *websocket.Conn
}

type frame struct {
	ID        int64            `json:"id"`
	Connected *connectedFrame  `json:"connected"`
	Sent      *sentFrame       `json:"sent"`
	Push      *pushFrame       `json:"push"`
	Error     *errorFrame      `json:"error"`
	OK        *json.RawMessage `json:"ok"`
	Pong      *json.RawMessage `json:"pong"`
	Messages  *json.RawMessage `json:"messages"`
	Group     *json.RawMessage `json:"group"`
	Heads     *json.RawMessage `json:"conversations"`
	raw       string
}

type connectedFrame struct {
	User        int64           `json:"user"`
	Session     string          `json:"session"`
	Cursor      map[int32]int64 `json:"cursor"`
	Recovered   bool            `json:"recovered"`
	Complete    bool            `json:"complete"`
	PingSeconds int             `json:"ping_seconds"`
}

type sentFrame struct {
	MessageID    string `json:"message_id"`
	Conversation string `json:"conversation"`
	Timestamp    int64  `json:"timestamp"`
}

type errorFrame struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type pushFrame struct {
	Type    string          `json:"type"`
	Pos     string          `json:"pos"`
	Seq     int64           `json:"seq"`
	GroupID int64           `json:"group_id"`
	User    int64           `json:"user"`
	From    int64           `json:"from"`
	Cursor  map[int32]int64 `json:"cursor"`
	Message *struct {
		MessageID   string `json:"message_id"`
		ClientMsgID string `json:"client_msg_id"`
		From        int64  `json:"from"`
		Content     string `json:"content"`
	} `json:"message"`
}

func (r *rig) dial(header ...http.Header) *client {
	r.t.Helper()
	var h http.Header
	if len(header) > 0 {
		h = header[0]
	}
	conn, response, err := websocket.DefaultDialer.DialContext(r.t.Context(), r.url, h)
	require.NoError(r.t, err)
	_ = response.Body.Close()
	r.t.Cleanup(func() { _ = conn.Close() })
	return &client{t: r.t, conn: conn}
}

// connect dials and connects the user.
func (r *rig) connect(user int64, members ...string) (*client, *connectedFrame) {
	r.t.Helper()
	c := r.dial()
	c.send(`{"id":1,"connect":{"token":"%d"%s}}`, user, strings.Join(append([]string{""}, members...), ","))
	f := c.read()
	require.NotNil(r.t, f.Connected, f.raw)
	return c, f.Connected
}

func (c *client) send(format string, args ...any) {
	c.t.Helper()
	require.NoError(c.t, c.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)))
}

func (c *client) read() frame {
	c.t.Helper()
	f, err := c.next()
	require.NoError(c.t, err)
	return f
}

func (c *client) next() (frame, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	_, data, err := c.conn.ReadMessage()
	if err != nil {
		return frame{}, err
	}
	f := frame{raw: string(data)}
	return f, json.Unmarshal(data, &f)
}

// closedWith reads until the connection is closed and answers how.
func (c *client) closedWith() (code int, reason string) {
	c.t.Helper()
	for {
		_, err := c.next()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		require.ErrorAs(c.t, err, &closed)
		return closed.Code, closed.Text
	}
}

// pushed reads a push of the message with the content.
func (c *client) pushed(content string) *pushFrame {
	c.t.Helper()
	f := c.read()
	require.NotNil(c.t, f.Push, f.raw)
	require.NotNil(c.t, f.Push.Message, f.raw)
	require.Equal(c.t, content, f.Push.Message.Content)
	return f.Push
}

func TestAMessageGoesFromSocketToSocket(t *testing.T) {
	s := startSimple(t, connect.Config{})
	a, _ := s.connect(1001)
	b, connected := s.connect(1002)
	require.Equal(t, int64(1002), connected.User)
	require.True(t, connected.Recovered)
	require.True(t, connected.Complete)
	require.Equal(t, 25, connected.PingSeconds)

	a.send(`{"id":2,"send":{"to":1002,"content":"hello","client_msg_id":"c1"}}`)
	require.Equal(t, "hello", b.read().Push.Message.Content)
	for range 2 { // the answer and the sender's own push, in either order
		f := a.read()
		if f.Sent != nil {
			require.Equal(t, int64(2), f.ID)
			require.Equal(t, "u:1001:1002", f.Sent.Conversation)
		} else {
			require.Equal(t, "c1", f.Push.Message.ClientMsgID)
		}
	}
}

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
	"millrace/services/connect/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// A token is "user" or "user@unix-milliseconds", with the time at which a session of the token ends, 5 s after the token
// expires. "user#unix-seconds" says when it was issued, and "vip:user" that the user is one. The token "unknown" cannot be
// checked now.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string) (auth.Identity, error) {
	if token == "panic" {
		panic("at the disco")
	}
	if token == "unknown" {
		return auth.Identity{}, auth.ErrUnavailable
	}
	token, issued, _ := strings.Cut(token, "#")
	user, expires, _ := strings.Cut(token, "@")
	user, vip := strings.CutPrefix(user, "vip:")
	id, err := strconv.ParseInt(user, 10, 64)
	if err != nil {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	identity := auth.Identity{User: id, UserType: "member", Region: "eu"}
	if vip {
		identity.UserType = "vip"
	}
	if seconds, err := strconv.ParseInt(issued, 10, 64); err == nil {
		identity.Issued = time.Unix(seconds, 0)
	}
	if ms, err := strconv.ParseInt(expires, 10, 64); err == nil {
		identity.Expires = time.UnixMilli(ms).Add(-5 * time.Second)
	}
	return identity, nil
}

// listen runs a gRPC server in memory and returns a function that connects to it.
func listen(t testing.TB, register func(*grpc.Server)) (dial func() (cluster.Conn, error)) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	register(server)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return func() (cluster.Conn, error) {
		return grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	}
}

// serve runs a gRPC server in memory and returns a connection to it.
func serve(t testing.TB, register func(*grpc.Server)) cluster.Conn {
	t.Helper()
	conn, err := listen(t, register)()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func serveMessages(t testing.TB, n millracev1.MessageServiceServer) cluster.Conn {
	return serve(t, func(s *grpc.Server) { millracev1.RegisterMessageServiceServer(s, n) })
}

func servePushes(t testing.TB, n millracev1.PushServiceServer) cluster.Conn {
	return serve(t, func(s *grpc.Server) { millracev1.RegisterPushServiceServer(s, n) })
}

// rig is a gateway with everything that it needs.
type rig struct {
	t       testing.TB
	gateway *connect.Gateway
	url     string
}

// live waits until the sessions get what comes at once.
func (r *rig) live() {
	r.t.Helper()
	require.Eventually(r.t, r.gateway.Live, patience, time.Millisecond)
}

func start(t testing.TB, cfg connect.Config, messages, pushes []cluster.Conn) *rig {
	t.Helper()
	return startListed(t, cfg, static(messages), static(pushes))
}

// static returns a lister of nodes that stay.
func static(conns []cluster.Conn) *cluster.Lister {
	l := &cluster.Lister{Resolver: net.DefaultResolver}
	byAddress := map[string]cluster.Conn{}
	for i, conn := range conns {
		address := fmt.Sprintf("127.0.0.1:%d", i+1)
		l.Names, byAddress[address] = append(l.Names, address), conn
	}
	l.Dial = func(_, address string) (cluster.Conn, error) { return byAddress[address], nil }
	return l
}

// pushAddress returns the address of the push node i that behindOneName serves.
func pushAddress(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

func startListed(t testing.TB, cfg connect.Config, messages, pushes *cluster.Lister) *rig {
	t.Helper()
	return startVerified(t, cfg, tokens{}, messages, pushes)
}

func startVerified(t testing.TB, cfg connect.Config, verifier connect.Verifier, messages, pushes *cluster.Lister) *rig {
	t.Helper()
	g := connect.New(cfg, verifier, messages, pushes, slog.New(slog.DiscardHandler))
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
	w := newWorld(t, 4)
	s := &simple{w: w, message: &messageNode{w: w}, push: w.newPushNode(0, 1, 2, 3)}
	s.rig = start(t, cfg, []cluster.Conn{serveMessages(t, s.message)}, []cluster.Conn{servePushes(t, s.push)})
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(s.push.attached) == 1
	}, patience, time.Millisecond, "the gateway attaches")
	return s
}

// client is a WebSocket client whose frames the test reads itself.
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
	Content string          `json:"content"`
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

// connect dials and connects as the user.
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

// closedWith reads until the connection is closed and returns the code and the reason.
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
	for range 2 { // the answer and the push to the sender, in either order
		f := a.read()
		if f.Sent != nil {
			require.Equal(t, int64(2), f.ID)
			require.Equal(t, "u:1001:1002", f.Sent.Conversation)
		} else {
			require.Equal(t, "c1", f.Push.Message.ClientMsgID)
		}
	}
}

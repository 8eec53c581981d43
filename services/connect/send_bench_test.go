package connect

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"millrace/infra/auth"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// What a send costs a gateway from its frame to the answer: over a real socket, with a message node that accepts everything at
// once. The client allocates nothing.
func BenchmarkSend(b *testing.B) {
	for _, clients := range []int{1, 500} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			g, url := startInstant(b)
			all := make([]*benchClient, clients)
			for i := range all {
				all[i] = connectBench(b, g, url, int64(i+1))
			}
			frame := benchFrame(`{"id":7,"send":{"to":1002,"content":"` + strings.Repeat("x", 100) + `","client_msg_id":"0123456789abcdef0123456789abcdef"}}`)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += clients { // each has one send in flight
				for _, c := range all {
					c.write(frame)
				}
				for _, c := range all {
					c.read()
				}
			}
		})
	}
}

// What a delivery to one session costs a gateway, when a frame has deliveries to many users.
func BenchmarkDeliver(b *testing.B) {
	const clients = 100
	g, url := startInstant(b)
	all := make([]*benchClient, clients)
	response := &millracev1.AttachResponse{}
	span := &millracev1.Span{}
	for i := range all {
		all[i] = connectBench(b, g, url, int64(i+1))
		span.Deliveries = append(span.Deliveries, &millracev1.Delivery{
			Channels: []string{"u:" + strconv.Itoa(i+1)}, Push: []byte(`{"push":{"type":"new_message","content":"` + strings.Repeat("x", 250) + `"}}`),
		})
	}
	response.Spans = append(response.Spans, span)
	g.hub.learnt(map[int32]int64{0: 0})
	g.hub.wg.Wait()
	for _, c := range all {
		c.session(g).sub.buffering = false
	}
	s := g.hub.attach("node")
	g.hub.take(s)
	g.hub.acknowledged(s, &millracev1.InterestAck{Number: 1})
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += clients {
		span.After, span.Interest = span.GetThrough(), 1
		for _, d := range span.GetDeliveries() {
			span.Through++
			d.Seq = span.GetThrough()
		}
		g.hub.handle(s, response)
		for _, c := range all {
			c.read()
		}
	}
}

// startInstant starts a gateway whose one message node does everything at once.
func startInstant(b *testing.B) (gateway *Gateway, url string) {
	nodes := &cluster.Lister{
		Names: []string{"node:1"}, Resolver: loopback{}, Dial: func(string, string) (cluster.Conn, error) { return instantNode{}, nil },
	}
	g := New(Config{SendRate: 1 << 30}, anybody{}, nodes, &cluster.Lister{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Run(ctx)
	}()
	server := httptest.NewServer(g)
	b.Cleanup(func() {
		g.cut()
		server.Close()
		g.Drain(ctx)
		cancel()
		<-done
	})
	require.Eventually(b, g.nodes.Answer, 30*time.Second, time.Millisecond)
	return g, "ws" + strings.TrimPrefix(server.URL, "http")
}

// benchClient writes the same bytes over and over, and skips what comes.
type benchClient struct {
	b      *testing.B
	conn   *websocket.Conn
	buffer [1024]byte
	user   int64
}

func connectBench(b *testing.B, g *Gateway, url string, user int64) *benchClient {
	conn, response, err := websocket.DefaultDialer.Dial(url, http.Header{})
	require.NoError(b, err)
	require.NoError(b, response.Body.Close())
	c := &benchClient{b: b, conn: conn, user: user}
	b.Cleanup(func() { _ = conn.Close() })
	require.NoError(b, conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":1,"connect":{"token":"%d"}}`, user)))
	c.read()
	require.Eventually(b, func() bool { return c.session(g) != nil }, 30*time.Second, time.Millisecond)
	return c
}

// session returns the client's session once its feed has nothing more to do.
func (c *benchClient) session(g *Gateway) *session {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	for _, sub := range g.hub.sessions {
		if sub.user == c.user && !sub.feeding && !sub.buffering {
			return sub.session
		}
	}
	return nil
}

func (c *benchClient) write(frame []byte) {
	if _, err := c.conn.NetConn().Write(frame); err != nil {
		c.b.Fatal(err)
	}
}

func (c *benchClient) read() {
	n, err := c.conn.NetConn().Read(c.buffer[:])
	if err != nil || n == 0 {
		c.b.Fatal(err)
	}
}

// benchFrame returns a frame as a client sends it, masked by zeros.
func benchFrame(text string) []byte {
	frame := appendFrame(nil, outFrame{op: websocket.TextMessage, payload: []byte(text)})
	frame[1] |= maskBit
	header := len(frame) - len(text)
	return append(append(frame[:header:header], 0, 0, 0, 0), text...)
}

type anybody struct{}

func (anybody) Verify(_ context.Context, token string) (auth.Identity, error) {
	user, err := strconv.ParseInt(token, 10, 64)
	return auth.Identity{User: user}, err
}

type loopback struct{}

func (loopback) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// instantNode is a connection to a message node that accepts every send and knows of nothing else.
type instantNode struct{}

func (instantNode) Close() error { return nil }

func (instantNode) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return nil }

func (instantNode) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &instantStream{ctx: ctx, answers: make(chan proto.Message, 16)}
	if method == millracev1.MessageService_Sync_FullMethodName {
		s.answers <- &millracev1.SyncResponse{Kind: &millracev1.SyncResponse_Start{Start: &millracev1.SyncStart{
			End: map[int32]int64{0: 0}, Cursor: map[int32]int64{0: 0}, Recovered: true,
		}}}
		s.answers <- &millracev1.SyncResponse{Kind: &millracev1.SyncResponse_End{End: &millracev1.SyncEnd{MembershipsKnown: true}}}
		close(s.answers)
	}
	return s, nil
}

type instantStream struct {
	grpc.ClientStream
	ctx     context.Context //nolint:containedctx // a stream has one
	answers chan proto.Message
	result  []*millracev1.SendResult
}

func (s *instantStream) CloseSend() error { return nil }

func (s *instantStream) SendMsg(m any) error {
	request, ok := m.(*millracev1.SendBatchesRequest)
	if !ok {
		return nil
	}
	if s.result == nil {
		s.result = []*millracev1.SendResult{{Sent: &millracev1.SendWSMessageResponse{
			MessageId: "0123456789abcdef0123456789abcdef", Conversation: "u:1001:1002", Timestamp: 1642678800,
		}}}
	}
	response := &millracev1.SendBatchesResponse{Results: make([]*millracev1.SendBatchResult, len(request.GetBatches()))}
	results := make([]millracev1.SendBatchResult, len(request.GetBatches()))
	for i, batch := range request.GetBatches() {
		results[i].Id, results[i].Results = batch.GetId(), s.result
		response.Results[i] = &results[i]
	}
	s.answers <- response
	return nil
}

func (s *instantStream) RecvMsg(m any) error {
	select {
	case answer, ok := <-s.answers:
		if !ok {
			return io.EOF
		}
		switch to := m.(type) {
		case *millracev1.SendBatchesResponse:
			to.Results = answer.(*millracev1.SendBatchesResponse).GetResults() //nolint:errcheck,forcetypeassert // the stream's kind
		case *millracev1.SyncResponse:
			to.Kind = answer.(*millracev1.SyncResponse).GetKind() //nolint:errcheck,forcetypeassert // the stream's kind
		}
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

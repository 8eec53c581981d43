package push

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

const patience = 30 * time.Second

// node is a hub behind a gRPC server.
type node struct {
	*Hub
	handler events.Handler
	client  millracev1.PushServiceClient
	ticks   chan time.Time
}

// admitAll is an admission that refuses nothing.
type admitAll struct{}

func (admitAll) Assigned(events.Position)                    {}
func (admitAll) Released(int32)                              {}
func (admitAll) Admits(context.Context, *events.Record) bool { return true }

func newNode(t *testing.T, opts Options) *node {
	t.Helper()
	return newNodeWith(t, opts, admitAll{})
}

func newNodeWith(t *testing.T, opts Options, admission Admission) *node {
	t.Helper()
	ticks := make(chan time.Time)
	opts.Ticks = ticks
	hub := New(opts, admission, slog.New(slog.DiscardHandler))
	hub.Start()
	server := grpc.NewServer()
	millracev1.RegisterPushServiceServer(server, hub)
	listener := bufconn.Listen(1 << 16)
	var serving sync.WaitGroup
	serving.Go(func() { assert.NoError(t, server.Serve(listener)) })
	conn, err := grpc.NewClient("passthrough:push", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, hub.Stop(ctx))
		server.GracefulStop()
		require.NoError(t, conn.Close())
		serving.Wait()
	})
	return &node{Hub: hub, handler: hub.Handler(), client: millracev1.NewPushServiceClient(conn), ticks: ticks}
}

// say handles a message of user 1 and settles it, as the router does.
func (n *node) say(t *testing.T, partition int32, seq, to int64, content string) {
	t.Helper()
	pos := events.Position{Partition: partition, Seq: seq}
	require.NoError(t, n.handler.Handle(t.Context(), messageAt(pos, to, content)))
	n.handler.Settled(pos)
}

func messageAt(pos events.Position, to int64, content string) events.Record {
	return events.Record{Position: pos, Event: events.Event{
		Type: events.NewMessage, Timestamp: 1, Message: &events.Message{
			MessageID: pos.String(), Conversation: events.Direct(1, to), From: 1, To: to, Content: content, MessageType: 1, Timestamp: 1,
		},
	}}
}

// attached is the gateway's end of a stream.
type attached struct {
	*testing.T
	stream  grpc.BidiStreamingClient[millracev1.AttachRequest, millracev1.AttachResponse]
	number  uint64
	pending []*millracev1.Delivery

	broadcasts []*millracev1.Broadcast
}

func (n *node) dial(t *testing.T) *attached {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	stream, err := n.client.Attach(ctx)
	require.NoError(t, err)
	return &attached{T: t, stream: stream}
}

func (n *node) attach(t *testing.T, name string, channels ...string) *attached {
	t.Helper()
	a := n.dial(t)
	a.hello(name)
	require.Equal(t, uint64(1), a.want(channels...).GetAck().GetNumber())
	return a
}

func (a *attached) hello(name string) {
	a.Helper()
	require.NoError(a, a.stream.Send(&millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Hello{
		Hello: &millracev1.Hello{Gateway: name},
	}}))
}

// want adds channels to the interest and returns the frame that contains the acknowledgement.
func (a *attached) want(channels ...string) *millracev1.AttachResponse {
	a.Helper()
	a.number++
	require.NoError(a, a.stream.Send(&millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Interest{
		Interest: &millracev1.Interest{Number: a.number, Add: channels},
	}}))
	for {
		if r := a.recv(); r.GetAck() != nil {
			return r
		}
	}
}

func (a *attached) recv() *millracev1.AttachResponse {
	a.Helper()
	r, err := a.stream.Recv()
	require.NoError(a, err)
	return r
}

// end reads to the end of the stream and returns how it ended: io.EOF if in good order.
func (a *attached) end() error {
	for {
		if _, err := a.stream.Recv(); err != nil {
			return err
		}
	}
}

// nextDelivery skips everything but deliveries.
func (a *attached) nextDelivery() *millracev1.Delivery {
	a.Helper()
	for len(a.pending) == 0 {
		for _, s := range a.recv().GetSpans() {
			a.pending = append(a.pending, s.GetDeliveries()...)
		}
	}
	d := a.pending[0]
	a.pending = a.pending[1:]
	return d
}

func TestGatewayGetsWhatConcernsItsChannelsOnce(t *testing.T) {
	n := newNode(t, Options{})
	n.handler.Assigned(events.Position{Partition: 3, Seq: 10})
	both := n.attach(t, "both", events.UserChannel(1), events.UserChannel(2))
	other := n.attach(t, "other", events.UserChannel(9))
	n.say(t, 3, 11, 2, "hello")
	n.say(t, 3, 14, 9, "you")
	require.Equal(t, int64(11), both.nextDelivery().GetSeq())
	require.Equal(t, int64(14), both.nextDelivery().GetSeq())
	d := other.nextDelivery()
	require.Equal(t, int64(14), d.GetSeq())
	require.Equal(t, []string{"u:1", "u:9"}, d.GetChannels())
	require.JSONEq(t, `{"push":{"type":"new_message","pos":"3:14","conversation":"u:1:9","seq":14,"message":{
		"message_id":"3:14","from":1,"to":9,"content":"you","message_type":1,"timestamp":1}}}`, string(d.GetPush()))
}

func TestPartitionsAreToldOnAttachingOnAssignmentAndAsTheyMove(t *testing.T) {
	n := newNode(t, Options{})
	n.handler.Assigned(events.Position{Partition: 3, Seq: 10})
	a := n.dial(t)
	a.hello("a")
	span := func(partition int32, after, through int64) {
		t.Helper()
		spans := a.recv().GetSpans()
		require.Len(t, spans, 1)
		require.Equal(t, []int64{int64(partition), after, through},
			[]int64{int64(spans[0].GetPartition()), spans[0].GetAfter(), spans[0].GetThrough()})
		require.Empty(t, spans[0].GetDeliveries())
	}
	span(3, 10, 10)
	n.handler.Assigned(events.Position{Partition: 4, Seq: 7})
	span(4, 7, 7)
	n.say(t, 3, 12, 2, "for nobody here")
	n.handler.Settled(events.Position{Partition: 4, Seq: 8}) // poisoned
	n.handler.Released(4)
	n.ticks <- time.Now()
	span(3, 10, 12)
	n.ticks <- time.Now()                                    // nothing moved
	n.handler.Settled(events.Position{Partition: 3, Seq: 5}) // moves nothing
	n.handler.Settled(events.Position{Partition: 4, Seq: 9}) // the partition is no longer read here
	r := a.want("u:1")
	require.Equal(t, map[int32]int64{3: 12}, r.GetAck().GetHandled())
	require.Empty(t, r.GetSpans())
}

// Handle never waits: the queue of the slow gateway fills while this goroutine goes on, and the fast gateway is served.
func TestSlowGatewayIsClosedAndOthersAreUnaffected(t *testing.T) {
	n := newNode(t, Options{QueueBytes: 1 << 20})
	n.handler.Assigned(events.Position{Partition: 0})
	slow := n.attach(t, "slow", events.UserChannel(1))
	fast := n.attach(t, "fast", events.UserChannel(2))
	content := strings.Repeat("x", events.MaxContentBytes)
	seq := int64(0)
	say := func() {
		t.Helper()
		seq++
		n.say(t, 0, seq, 2, content)
		require.Equal(t, seq, fast.nextDelivery().GetSeq())
	}
	streams := func() int {
		n.routes.mu.Lock()
		defer n.routes.mu.Unlock()
		return len(n.routes.gateways)
	}
	for streams() == 2 {
		require.Less(t, seq, int64(10_000), "the slow gateway is never closed")
		say()
	}
	for range 10 {
		say()
	}
	require.Equal(t, codes.ResourceExhausted, status.Code(slow.end()))
}

func TestStopEndsStreamsAndRefusesNewOnes(t *testing.T) {
	n := newNode(t, Options{})
	a := n.attach(t, "a", "u:1")
	silent := n.dial(t)
	require.NoError(t, n.Stop(t.Context()))
	require.Equal(t, codes.Unavailable, status.Code(a.end()))
	require.Equal(t, codes.Unavailable, status.Code(silent.end()))
	require.Equal(t, codes.Unavailable, status.Code(n.dial(t).end()))
	require.NoError(t, n.Stop(t.Context()))
	n.say(t, 0, 1, 2, "handled all the same")
}

func TestGatewayThatLeavesEndsItsStream(t *testing.T) {
	n := newNode(t, Options{})
	a := n.attach(t, "a", "u:1")
	require.NoError(t, a.stream.CloseSend())
	require.ErrorIs(t, a.end(), io.EOF)
	require.Eventually(t, func() bool {
		n.routes.mu.Lock()
		defer n.routes.mu.Unlock()
		return len(n.routes.gateways) == 0 && len(n.routes.channels) == 0
	}, patience, time.Millisecond)
}

func TestBrokenProtocolEndsTheStream(t *testing.T) {
	hello := &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Hello{Hello: &millracev1.Hello{}}}
	interest := func(number uint64) *millracev1.AttachRequest {
		return &millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Interest{Interest: &millracev1.Interest{Number: number}}}
	}
	for name, requests := range map[string][]*millracev1.AttachRequest{
		"no hello":           {interest(1)},
		"two hellos":         {hello, hello},
		"nothing":            {hello, {}},
		"interest from 2":    {hello, interest(2)},
		"interest twice":     {hello, interest(1), interest(1)},
		"a number left out":  {hello, interest(1), interest(3)},
		"a number going off": {hello, interest(1), interest(0)},
	} {
		t.Run(name, func(t *testing.T) {
			a := newNode(t, Options{}).dial(t)
			for _, r := range requests {
				require.NoError(t, a.stream.Send(r))
			}
			require.Equal(t, codes.InvalidArgument, status.Code(a.end()))
		})
	}
}

func TestSignalReachesAllInterestedTheSenderToo(t *testing.T) {
	n := newNode(t, Options{})
	sender := n.attach(t, "sender", "u:1")
	same := n.attach(t, "same", "u:1", "u:2")
	other := n.attach(t, "other", "u:2")
	send := func(channel string) {
		require.NoError(t, sender.stream.Send(&millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Signal{
			Signal: &millracev1.Signal{Channel: channel, ExceptUser: 5, Kind: &millracev1.Signal_Push{Push: []byte(channel)}},
		}}))
	}
	signals := func(a *attached, count int) (got []string) {
		for len(got) < count {
			for _, s := range a.recv().GetSignals() {
				require.Equal(t, int64(5), s.GetExceptUser())
				got = append(got, string(s.GetPush()))
			}
		}
		return got
	}
	send("u:1")
	send("u:3")
	send("u:2")
	require.Equal(t, []string{"u:1"}, signals(sender, 1))
	require.Equal(t, []string{"u:1", "u:2"}, signals(same, 2))
	require.Equal(t, []string{"u:2"}, signals(other, 1))
}

// While gateways attach, leave and change their interest, several partitions deliver at once. Every delivery on a channel
// that a gateway wanted all the time must arrive, in the order of its partition, in spans without holes.
func TestEverythingAtOnceLosesNothing(t *testing.T) {
	const partitions, records = 4, 300
	n := newNode(t, Options{})
	steady := []*attached{n.attach(t, "a", "u:1"), n.attach(t, "b", "u:2")}
	var reading, working sync.WaitGroup
	for _, a := range steady {
		reading.Go(func() {
			last, got := make(map[int32]int64), make(map[int32]int64)
			for got[0]+got[1]+got[2]+got[3] < partitions*records {
				r, err := a.stream.Recv()
				if !assert.NoError(a, err) {
					return
				}
				for _, s := range r.GetSpans() {
					assert.Equal(a, last[s.GetPartition()], s.GetAfter())
					last[s.GetPartition()] = s.GetThrough()
					for _, d := range s.GetDeliveries() {
						got[s.GetPartition()]++
						assert.Equal(a, got[s.GetPartition()], d.GetSeq())
					}
				}
			}
		})
	}
	done := make(chan struct{})
	for i := range 3 {
		working.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-done:
					return
				default:
				}
				guest := n.attach(t, fmt.Sprint("guest ", i), "u:1", fmt.Sprint("u:", round))
				guest.want("u:2")
				assert.NoError(t, guest.stream.CloseSend())
				assert.ErrorIs(t, guest.end(), io.EOF)
			}
		})
	}
	working.Go(func() {
		for {
			select {
			case n.ticks <- time.Now():
			case <-done:
				return
			}
		}
	})
	var handling sync.WaitGroup
	for p := range int32(partitions) {
		handling.Go(func() {
			n.handler.Assigned(events.Position{Partition: p})
			for seq := range int64(records) {
				pos := events.Position{Partition: p, Seq: seq + 1}
				assert.NoError(t, n.handler.Handle(t.Context(), messageAt(pos, 2, "x")))
				n.handler.Settled(pos)
			}
		})
	}
	handling.Wait()
	reading.Wait()
	close(done)
	working.Wait()
}

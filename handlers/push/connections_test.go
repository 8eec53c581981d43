package push

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	millracev1 "millrace/proto/millrace/v1"
)

// answer answers the next question.
func (a *attached) answer(total int32, sessions ...*millracev1.Session) {
	a.Helper()
	for {
		for _, q := range a.recv().GetQuestions() {
			require.EqualValues(a, 7, q.GetUser())
			require.EqualValues(a, 2, q.GetLimit())
			require.NoError(a, a.stream.Send(&millracev1.AttachRequest{Kind: &millracev1.AttachRequest_Sessions{
				Sessions: &millracev1.SessionsAnswer{Number: q.GetNumber(), Total: total, Sessions: sessions, More: total > 1},
			}}))
			return
		}
	}
}

func TestConnectionsAreWhatAllGatewaysAnswer(t *testing.T) {
	n := newNode(t, Options{})
	a, b := n.attach(t, "a"), n.attach(t, "b")
	done := make(chan *millracev1.ConnectionsResponse)
	go func() {
		all, err := n.client.Connections(t.Context(), &millracev1.ConnectionsRequest{User: 7, Limit: 2})
		if err != nil {
			all = &millracev1.ConnectionsResponse{}
		}
		done <- all
	}()
	b.answer(3, &millracev1.Session{Session: "2", User: 7, Device: "web", QueuedBytes: 5}, &millracev1.Session{Session: "3", User: 7, Device: "phone"})
	a.answer(1, &millracev1.Session{Session: "1", User: 7, Device: "tv", Since: 9})
	want := &millracev1.ConnectionsResponse{
		Gateways: []*millracev1.Gateway{{Name: "a", Sessions: 1}, {Name: "b", Sessions: 3}},
		Sessions: []*millracev1.Session{
			{Session: "3", User: 7, Device: "phone", Gateway: "b"},
			{Session: "1", User: 7, Device: "tv", Since: 9, Gateway: "a"},
			{Session: "2", User: 7, Device: "web", QueuedBytes: 5, Gateway: "b"},
		},
		More: true,
	}
	got := <-done
	require.True(t, proto.Equal(want, got), "%v", got)

	_, err := n.client.Connections(t.Context(), &millracev1.ConnectionsRequest{Limit: maxSessions + 1})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// withTwoGateways runs the test with the gateways a and b attached, from whose queues nobody sends.
func withTwoGateways(t *testing.T, test func(t *testing.T, h *Hub, a, b *gateway)) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{}, nil, slog.New(slog.DiscardHandler))
		var both [2]*gateway
		for i, name := range []string{"a", "b"} {
			both[i] = newGateway(newQueue(h.opts))
			both[i].name = name
			h.routes.attach(both[i])
		}
		test(t, h, both[0], both[1])
		require.Empty(t, h.routes.questions)
		require.NoError(t, h.Stop(context.Background()))
	})
}

func TestAGatewayThatDoesNotAnswerIsSilentAndWaitedForTwoSeconds(t *testing.T) {
	withTwoGateways(t, func(t *testing.T, h *Hub, a, _ *gateway) {
		begin := time.Now()
		go func() {
			synctest.Wait()
			h.routes.answer(a, &millracev1.SessionsAnswer{Number: 1, Total: 4})
			h.routes.answer(a, &millracev1.SessionsAnswer{Number: 2}) // asked by nobody
		}()
		all, err := h.Connections(t.Context(), &millracev1.ConnectionsRequest{})
		require.NoError(t, err)
		require.Equal(t, answersWait, time.Since(begin))
		require.EqualValues(t, 4, all.GetGateways()[0].GetSessions())
		require.False(t, all.GetGateways()[0].GetSilent())
		require.True(t, all.GetGateways()[1].GetSilent())
	})
}

func TestAGatewayThatLeavesIsNotWaitedForAndLeftOut(t *testing.T) {
	withTwoGateways(t, func(t *testing.T, h *Hub, a, b *gateway) {
		begin := time.Now()
		go func() {
			synctest.Wait()
			h.routes.detach(b)
			h.routes.answer(a, &millracev1.SessionsAnswer{Number: 1})
		}()
		all, err := h.Connections(t.Context(), &millracev1.ConnectionsRequest{})
		require.NoError(t, err)
		require.Equal(t, begin, time.Now())
		require.Len(t, all.GetGateways(), 1)
	})
}

func TestOnlySoManyCallsWaitForTheGateways(t *testing.T) {
	withTwoGateways(t, func(t *testing.T, h *Hub, _, _ *gateway) {
		ctx, cancel := context.WithCancel(t.Context())
		for range maxQuestions {
			go func() { _, _ = h.Connections(ctx, &millracev1.ConnectionsRequest{}) }()
		}
		synctest.Wait()
		_, err := h.Connections(ctx, &millracev1.ConnectionsRequest{})
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		cancel()
		synctest.Wait()
	})
}

func TestDisconnectIsDoneOnceAllGatewaysHaveClosedTheSessions(t *testing.T) {
	withTwoGateways(t, func(t *testing.T, h *Hub, a, b *gateway) {
		go func() {
			synctest.Wait()
			for _, g := range []*gateway{a, b} {
				asked := g.queue.take().response.GetQuestions()[0]
				if !asked.GetDisconnect() || asked.GetUser() != 7 || asked.GetDevice() != "web" {
					return
				}
				h.routes.answer(g, &millracev1.SessionsAnswer{Number: asked.GetNumber(), Sessions: []*millracev1.Session{{}}})
			}
		}()
		done, err := h.Disconnect(context.Background(), &millracev1.DisconnectRequest{User: 7, Device: "web"})
		require.NoError(t, err)
		require.EqualValues(t, 2, done.GetClosed())

		go func() {
			synctest.Wait()
			h.routes.answer(a, &millracev1.SessionsAnswer{Number: 2})
		}()
		_, err = h.Disconnect(context.Background(), &millracev1.DisconnectRequest{User: 7})
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.ErrorContains(t, err, "gateway b has not confirmed")
		_, err = h.Disconnect(context.Background(), &millracev1.DisconnectRequest{})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	})
}

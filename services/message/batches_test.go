package message

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

type batchClient = grpc.BidiStreamingClient[millracev1.SendBatchesRequest, millracev1.SendBatchesResponse]

func direct(contents ...string) []*millracev1.SendWSMessageRequest {
	var batch []*millracev1.SendWSMessageRequest
	for _, content := range contents {
		batch = append(batch, &millracev1.SendWSMessageRequest{Sender: by(1), To: 2, Content: content, ClientMsgId: content})
	}
	return batch
}

func openBatches(t testing.TB, n *node) batchClient {
	t.Helper()
	stream, err := n.SendBatches(t.Context())
	require.NoError(t, err)
	return stream
}

func sendBatch(t testing.TB, stream batchClient, id uint64, messages []*millracev1.SendWSMessageRequest) {
	t.Helper()
	require.NoError(t, stream.Send(&millracev1.SendBatchesRequest{
		Batches: []*millracev1.SendBatch{{Id: id, Messages: messages}},
	}))
}

// collect reads the results of n batches and returns their codes by id.
func collect(t testing.TB, stream batchClient, n int) map[uint64][]codes.Code {
	t.Helper()
	got := map[uint64][]codes.Code{}
	for len(got) < n {
		response, err := stream.Recv()
		require.NoError(t, err)
		for _, result := range response.GetResults() {
			require.NotContains(t, got, result.GetId(), "answered twice")
			got[result.GetId()] = codesOf(result.GetResults())
		}
	}
	return got
}

func codesOf(results []*millracev1.SendResult) []codes.Code {
	var all []codes.Code
	for _, r := range results {
		all = append(all, codes.Code(r.GetCode()))
	}
	return all
}

func contents(t testing.TB, n *node) []string {
	t.Helper()
	const conversation = "u:1:2"
	p := events.Partition(conversation, n.service.partitions)
	var all []string
	ranges := []events.Range{{Partition: p, Through: n.end(t)[p]}}
	err := n.bus.Log(events.TopicMessages).Read(t.Context(), ranges, func(raw pubsub.RawRecord) error {
		e, err := events.Decode(events.TopicMessages, raw.Position, raw.Value)
		if err == nil && e.ConversationKey() == conversation {
			all = append(all, e.Message.Content)
		}
		return err
	})
	require.NoError(t, err)
	return all
}

func TestBatchIsPublishedInOrder(t *testing.T) {
	n := newNode(t, memory.Config{})
	stream := openBatches(t, n)
	sendBatch(t, stream, 7, direct("a", "b", "c"))
	require.Equal(t, map[uint64][]codes.Code{7: {codes.OK, codes.OK, codes.OK}}, collect(t, stream, 1))
	require.Equal(t, []string{"a", "b", "c"}, contents(t, n))
	require.NoError(t, stream.CloseSend())
	_, err := stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// What one frame has for a partition goes into the log with one call, and only the batches of a partition that fails are refused.
func TestDirectBatchesOfAPartitionArePublishedTogether(t *testing.T) {
	n := newNode(t, memory.Config{Fail: func(_ string, msg *message.Message) error {
		if strings.Contains(string(msg.Payload), `"content":"bad"`) {
			return errors.New("broker gone")
		}
		return nil
	}})
	partition := func(to int64) int32 { return events.Partition(events.Direct(1, to), n.service.partitions) }
	together, apart := []int64{2}, int64(0)
	for to := int64(3); len(together) < 4 || apart == 0; to++ {
		switch {
		case partition(to) == partition(2) && len(together) < 4:
			together = append(together, to)
		case partition(to) != partition(2):
			apart = to
		}
	}
	frame := &millracev1.SendBatchesRequest{}
	for i, batch := range []struct {
		to       int64
		contents []string
	}{
		{together[0], []string{"a", "", "b"}},
		{together[1], []string{"c"}},
		{apart, []string{"d"}},
		{together[2], []string{"e", "bad", "f"}},
		{together[3], []string{"g"}},
	} {
		messages := direct(batch.contents...)
		for _, m := range messages {
			m.To = batch.to
		}
		frame.Batches = append(frame.Batches, &millracev1.SendBatch{Id: uint64(i), Messages: messages})
	}
	require.Len(t, n.service.grouped(frame.GetBatches()), 2)
	stream := openBatches(t, n)
	require.NoError(t, stream.Send(frame))
	require.Equal(t, map[uint64][]codes.Code{
		0: {codes.OK, codes.InvalidArgument, codes.OK}, 1: {codes.OK}, 2: {codes.OK},
		3: {codes.OK, codes.Unavailable, codes.Unavailable}, 4: {codes.Unavailable},
	}, collect(t, stream, 5))
	require.NoError(t, stream.CloseSend())
}

// A frame may have more batches than may be unanswered, as when many senders begin at once.
func TestFrameOfMoreBatchesThanMayBeUnansweredIsAnswered(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	const batches = 3*maxUnanswered + 1
	frame := &millracev1.SendBatchesRequest{}
	for i := range batches {
		messages := direct("x")
		messages[0].To = int64(2 + i)
		frame.Batches = append(frame.Batches, &millracev1.SendBatch{Id: uint64(i), Messages: messages})
	}
	stream := openBatches(t, n)
	require.NoError(t, stream.Send(frame))
	require.Len(t, collect(t, stream, batches), batches)
	require.NoError(t, stream.CloseSend())
}

func TestBatchBehindAFailedPublishIsRefused(t *testing.T) {
	n := newNode(t, memory.Config{Fail: func(_ string, msg *message.Message) error {
		if strings.Contains(string(msg.Payload), `"content":"bad"`) {
			return errors.New("broker gone")
		}
		return nil
	}})
	stream := openBatches(t, n)
	sendBatch(t, stream, 1, direct("a", "", "bad", strings.Repeat("x", 40<<10), "d"))
	require.Equal(t, []codes.Code{codes.OK, codes.InvalidArgument, codes.Unavailable, codes.OutOfRange, codes.Unavailable},
		collect(t, stream, 1)[1])
	require.Equal(t, []string{"a"}, contents(t, n), "nothing may overtake what the sender will repeat")
	require.NoError(t, stream.CloseSend())
}

func TestMessageRefusedForItsOwnFaultHoldsUpNone(t *testing.T) {
	n := newNode(t, memory.Config{})
	stream := openBatches(t, n)
	batch := direct("a", "b", "", "d", "e")
	batch[1].To = 3
	batch[3].Sender = by(9)
	sendBatch(t, stream, 1, batch)
	require.Equal(t,
		[]codes.Code{codes.OK, codes.InvalidArgument, codes.InvalidArgument, codes.InvalidArgument, codes.OK},
		collect(t, stream, 1)[1])
	require.Equal(t, []string{"a", "e"}, contents(t, n))
	require.NoError(t, stream.CloseSend())
}

func TestBatchThatWaitsForTheBrokerHoldsUpNoOther(t *testing.T) {
	n := newNode(t, memory.Config{})
	release := make(chan struct{})
	n.bus.instead = func(_ string, msgs ...*message.Message) error {
		if msgs[0].Metadata.Get(pubsub.KeyHeader) == "u:1:2" {
			<-release
		}
		return nil
	}
	stream := openBatches(t, n)
	require.NoError(t, stream.Send(&millracev1.SendBatchesRequest{Batches: []*millracev1.SendBatch{
		{Id: 1, Messages: direct("a")},
		{Id: 2, Messages: []*millracev1.SendWSMessageRequest{{Sender: by(1), To: 3, Content: "b"}}},
	}}))
	require.Contains(t, collect(t, stream, 1), uint64(2))
	close(release)
	require.Contains(t, collect(t, stream, 1), uint64(1))
	require.NoError(t, stream.CloseSend())
}

func TestSendsBeyondTheBoundAreUnavailableAtOnce(t *testing.T) {
	n := newNode(t, memory.Config{})
	release := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(maxInFlight)
	n.bus.instead = func(string, ...*message.Message) error {
		waiting.Done()
		<-release
		return nil
	}
	stream := openBatches(t, n)
	for i := range maxInFlight {
		sendBatch(t, stream, uint64(i), direct("x"))
	}
	waiting.Wait()

	_, err := n.SendWSMessage(t.Context(), direct("one more")[0])
	requireCode(t, codes.Unavailable, err)
	close(release)
	for _, got := range collect(t, stream, maxInFlight) {
		require.Equal(t, []codes.Code{codes.OK}, got)
	}
	n.bus.instead = nil
	_, err = n.SendWSMessage(t.Context(), direct("later")[0])
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
}

// The client does not read until everything is sent, with far more unanswered batches than a stream may have.
func TestEveryBatchIsAnsweredOnceWhateverTheCallersPace(t *testing.T) {
	n := newNode(t, memory.Config{})
	stream := openBatches(t, n)
	const batches = 3 * maxUnanswered
	sent := make(chan error, 1)
	go func() {
		for i := range batches {
			err := stream.Send(&millracev1.SendBatchesRequest{Batches: []*millracev1.SendBatch{
				{Id: uint64(i), Messages: direct(fmt.Sprint(i))},
			}})
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	require.Len(t, collect(t, stream, batches), batches)
	require.NoError(t, <-sent)
	_, err := stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func TestDrainingNodeAnswersWhatItHasAndEndsTheStreamWhenTheOtherEndDoes(t *testing.T) {
	n := newNode(t, memory.Config{})
	stream := openBatches(t, n)
	sendBatch(t, stream, 1, direct("before"))
	require.Len(t, collect(t, stream, 1), 1)

	n.service.Drain()
	n.service.Drain()
	response, err := stream.Recv()
	require.NoError(t, err)
	require.True(t, response.GetDraining())

	sendBatch(t, stream, 2, direct("on its way already"))
	require.NoError(t, stream.CloseSend())
	require.Equal(t, map[uint64][]codes.Code{2: {codes.OK}}, collect(t, stream, 1))
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

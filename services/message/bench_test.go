package message

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// BenchmarkSendBatches sends messages over one stream and bufconn, with two frames unanswered, as a gateway does.
func BenchmarkSendBatches(b *testing.B) {
	for _, size := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("%d in a batch", size), func(b *testing.B) {
			n := newNode(b, memory.Config{Partitions: 64})
			stream := openBatches(b, n)
			b.ResetTimer()
			unanswered := 0
			for sent := 0; sent < b.N; {
				frame := &millracev1.SendBatchesRequest{}
				for sender := range 8 {
					batch := &millracev1.SendBatch{Id: uint64(sender)}
					for range size {
						batch.Messages = append(batch.Messages, &millracev1.SendWSMessageRequest{
							Sender: by(int64(sender + 1)), To: 100, Content: "0123456789", ClientMsgId: fmt.Sprint(sent),
						})
						sent++
					}
					frame.Batches = append(frame.Batches, batch)
				}
				require.NoError(b, stream.Send(frame))
				unanswered = answered(b, stream, unanswered+len(frame.GetBatches()), 8)
			}
			require.NoError(b, stream.CloseSend())
			answered(b, stream, unanswered, 0)
		})
	}
}

// answered reads until at most atMost batches are unanswered, and returns how many are.
func answered(b *testing.B, stream batchClient, unanswered, atMost int) int {
	b.Helper()
	for unanswered > atMost {
		response, err := stream.Recv()
		require.NoError(b, err)
		unanswered -= len(response.GetResults())
	}
	return unanswered
}

// BenchmarkSyncOfATail resumes from a log with 1,000 records that are not stored, 20 of which concern the user.
func BenchmarkSyncOfATail(b *testing.B) {
	n := newNode(b, memory.Config{})
	for i := range 1000 {
		n.publish(b, said(int64(i%50+2), int64(i%50+1), fmt.Sprint(i)))
	}
	cursor := map[int32]int64{0: 0, 1: 0, 2: 0, 3: 0}
	for b.Loop() {
		n.resume(b, 1, cursor)
	}
}

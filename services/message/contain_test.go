package message

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/panics"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestReadingThatPanicsIsTheErrorOfAllWhoWaitAndTheNextOneIsDone(t *testing.T) {
	background := newTasks()
	defer background.close()
	reads := 0
	s := newShared(background, 0, time.Minute, func(context.Context) (int, error) {
		if reads++; reads == 1 {
			panic("at the disco")
		}
		return reads, nil
	})
	_, err := s.get(t.Context())
	require.ErrorIs(t, err, panics.ErrPanic)
	got, err := s.get(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, got)
}

func TestPanicOverTheLogIsTheErrorOfWhomItConcerns(t *testing.T) {
	n := newNode(t, memory.Config{})
	at := n.publish(t, said(1, 2, "x"))[0]
	all := []events.Range{{Partition: at.Partition, Through: at.Seq}}
	_, err := n.service.tail.read(t.Context(), all, false, func(*logged) error { panic("at the disco") })
	require.ErrorIs(t, err, panics.ErrPanic)
	seen := 0
	_, err = n.service.tail.read(t.Context(), all, false, func(*logged) error {
		seen++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, seen)
}

func TestBatchThatPanicsIsAnsweredAsInternal(t *testing.T) {
	n := newNode(t, memory.Config{})
	batch := &millracev1.SendBatch{Id: 7, Messages: []*millracev1.SendWSMessageRequest{{}, nil}, Changes: []*millracev1.Change{{}}}
	n.service.members = nil // so that the batch panics
	batch.Messages[0] = &millracev1.SendWSMessageRequest{
		Sender: &millracev1.Sender{User: 1}, GroupId: 7, Content: "x", MessageType: 1, ClientMsgId: "a",
	}
	results := n.service.runContained(t.Context(), []*millracev1.SendBatch{batch})
	require.Len(t, results, 1)
	require.Len(t, results[0], 3)
	for _, r := range results[0] {
		require.Equal(t, codes.Internal, codes.Code(r.GetCode()))
	}
}

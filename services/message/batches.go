package message

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"millrace/infra/panics"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxUnanswered bounds the batches of one stream whose results are not written yet. At the bound the stream is not read
	// any further, so that a gateway which does not read its results holds up only itself.
	maxUnanswered = 1024
	// maxFrameResults keeps a frame of results well below gRPC's 4 MiB.
	maxFrameResults = 4096
)

type batchStream = grpc.BidiStreamingServer[millracev1.SendBatchesRequest, millracev1.SendBatchesResponse]

// SendBatches runs every batch in a goroutine of its own, so that a batch which waits for the store holds up no other.
// Results that are ready at the same time go into one frame.
func (s *Service) SendBatches(stream batchStream) error {
	unanswered := make(chan struct{}, maxUnanswered)
	results := make(chan *millracev1.SendBatchResult, maxUnanswered) // it is never full, because each result has its place in unanswered
	var sender, batches sync.WaitGroup
	send := func(r *millracev1.SendBatchesResponse) (err error) {
		if panicked := s.tasks.panics.Do(panics.Call, func() { err = stream.Send(r) }); panicked != nil {
			return panicked
		}
		return err
	}
	sender.Go(func() { sendResults(send, results, unanswered, s.draining) })
	defer sender.Wait()
	defer close(results)
	defer batches.Wait()
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, batch := range request.GetBatches() {
			unanswered <- struct{}{}
			batches.Go(func() {
				results <- &millracev1.SendBatchResult{
					Id: batch.GetId(), Results: s.runContained(stream.Context(), batch),
				}
			})
		}
	}
}

// runContained runs the batch. If that panics, the outcome of its changes is unknown.
func (s *Service) runContained(ctx context.Context, batch *millracev1.SendBatch) (results []*millracev1.SendResult) {
	err := s.tasks.panics.Do(panics.Call, func() { results = s.run(ctx, batch) })
	if err == nil {
		return results
	}
	results = nil
	for range len(batch.GetMessages()) + len(batch.GetChanges()) {
		results = append(results, &millracev1.SendResult{Code: int32(codes.Internal), Error: "internal error"})
	}
	return results
}

// sendResults writes results until the channel is closed. It yields once before it collects, so that results which are ready
// at the same time go together; a timer would cost more than it saves. After a failed write it only removes results, because
// the stream has ended and its reader is about to notice. When the service drains, it tells the other end once.
func sendResults(
	send func(*millracev1.SendBatchesResponse) error, results <-chan *millracev1.SendBatchResult, unanswered, draining <-chan struct{},
) {
	var failed bool
	for {
		select {
		case <-draining:
			draining = nil
			failed = failed || send(&millracev1.SendBatchesResponse{Draining: true}) != nil
		case result, ok := <-results:
			if !ok {
				return
			}
			runtime.Gosched()
			frame := []*millracev1.SendBatchResult{result}
			for n := len(result.GetResults()); n < maxFrameResults && len(results) > 0; {
				next := <-results
				frame, n = append(frame, next), n+len(next.GetResults())
			}
			failed = failed || send(&millracev1.SendBatchesResponse{Results: frame}) != nil
			for range frame {
				<-unanswered
			}
		}
	}
}

package message

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/panics"
	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxUnanswered bounds the batches of one stream whose results are not written yet. At the bound the stream is not read
	// any further, so that a gateway which does not read its results holds up only itself.
	maxUnanswered = 1024
	// maxTogether bounds the batches that share a call to publish.
	maxTogether = maxUnanswered / 4
	// maxFrameResults keeps a frame of results well below gRPC's 4 MiB.
	maxFrameResults = 4096
)

type batchStream = grpc.BidiStreamingServer[millracev1.SendBatchesRequest, millracev1.SendBatchesResponse]

// SendBatches runs every batch in a goroutine of its own, so that a batch which waits for the store holds up no other. Batches
// that wait for nothing but their partition share a goroutine and a call to publish with those of the same partition. Results
// that are ready at the same time go into one frame.
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
		for _, together := range s.grouped(request.GetBatches()) {
			for range together { // those of the groups before are being answered meanwhile
				unanswered <- struct{}{}
			}
			batches.Go(func() {
				for i, r := range s.runContained(stream.Context(), together) {
					results <- &millracev1.SendBatchResult{Id: together[i].GetId(), Results: r}
				}
			})
		}
	}
}

// grouped returns the batches in groups of at most maxTogether. The batches of a group run together.
func (s *Service) grouped(batches []*millracev1.SendBatch) [][]*millracev1.SendBatch {
	groups := make([][]*millracev1.SendBatch, 0, len(batches))
	latest := make(map[int32]int) // by partition, which group its next batch belongs to
	for _, b := range batches {
		if !onlyDirect(b) {
			groups = append(groups, []*millracev1.SendBatch{b})
			continue
		}
		m := b.GetMessages()[0]
		partition := events.Partition(events.Direct(m.GetSender().GetUser(), m.GetTo()), s.partitions)
		at, ok := latest[partition]
		if !ok || len(groups[at]) == maxTogether {
			at = len(groups)
			latest[partition] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], b)
	}
	return groups
}

// onlyDirect reports whether the batch consists of messages to one user. About these the store is asked at most whether they
// are blocked, and that for all batches of a group at once.
func onlyDirect(b *millracev1.SendBatch) bool {
	for _, m := range b.GetMessages() {
		if m.GetGroupId() != 0 {
			return false
		}
	}
	return len(b.GetMessages()) > 0 && len(b.GetChanges()) == 0
}

// runContained runs the batches of a group. If that panics, the outcome of their changes is unknown.
func (s *Service) runContained(ctx context.Context, group []*millracev1.SendBatch) (results [][]*millracev1.SendResult) {
	err := s.tasks.panics.Do(panics.Call, func() {
		if len(group) == 1 {
			results = [][]*millracev1.SendResult{s.run(ctx, group[0])}
			return
		}
		s.learnBlocks(ctx, group)
		runs := make([]*sending, len(group))
		for i, batch := range group {
			runs[i] = s.prepare(ctx, batch.GetMessages())
		}
		s.publishSends(ctx, runs...)
		results = make([][]*millracev1.SendResult, len(runs))
		for i, p := range runs {
			results[i] = p.results
		}
	})
	if err == nil {
		return results
	}
	results = make([][]*millracev1.SendResult, len(group))
	for i, batch := range group {
		for range len(batch.GetMessages()) + len(batch.GetChanges()) {
			results[i] = append(results[i], &millracev1.SendResult{Code: int32(codes.Internal), Error: "internal error"})
		}
	}
	return results
}

// learnBlocks finds out together what the checks of the batches are going to ask one by one.
func (s *Service) learnBlocks(ctx context.Context, group []*millracev1.SendBatch) {
	pairs := make([]store.Pair, len(group))
	for i, batch := range group {
		m := batch.GetMessages()[0]
		pairs[i] = store.Pair{By: m.GetTo(), User: m.GetSender().GetUser()}
	}
	_, _ = s.blocks.among(ctx, pairs...)
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

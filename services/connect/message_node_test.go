package connect_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
)

// messageNode is a MessageService over the world.
type messageNode struct {
	millracev1.UnimplementedMessageServiceServer
	w *world
	// hold may be nil. Otherwise batches wait until it is closed.
	hold    chan struct{}
	batches atomic.Int64
	// batch may be nil. Otherwise it decides the result of a batch; nil leaves the batch unanswered.
	batch func(*millracev1.SendBatch) *millracev1.SendBatchResult
	// beforeSync may be nil. Otherwise it runs when a Sync comes, before that looks at the log, and afterSync runs after
	// that.
	beforeSync, afterSync func()
	// beforeMemberships may be nil. Otherwise it runs when a Memberships comes.
	beforeMemberships func()
	syncs             atomic.Int64
	// syncDown makes Sync fail.
	syncDown atomic.Bool
	// lastSeen is when users were last seen.
	lastSeen map[int64]int64
	// blocks has, by who blocks and who is blocked, what was done last. The lock of the world guards it.
	blocks map[[2]int64]*millracev1.BlockedState
	// blocksDown makes BlockedBy fail.
	blocksDown atomic.Bool
	// stale makes Memberships return no groups.
	stale bool
}

func (n *messageNode) SendBatches(stream millracev1.MessageService_SendBatchesServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the gateway has gone
		}
		response := &millracev1.SendBatchesResponse{}
		for _, b := range slices.Backward(request.GetBatches()) { // a node promises no order among batches
			n.batches.Add(1)
			if n.hold != nil {
				<-n.hold
			}
			handle := n.batch
			if handle == nil {
				handle = n.accept
			}
			if result := handle(b); result != nil {
				response.Results = append(response.Results, result)
			}
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

// accept appends the batch's messages to the log, and answers its other changes as the calls of the same names are answered.
func (n *messageNode) accept(b *millracev1.SendBatch) *millracev1.SendBatchResult {
	result := &millracev1.SendBatchResult{Id: b.GetId()}
	for _, m := range b.GetMessages() {
		e := n.w.message(m.GetSender().GetUser(), m.GetTo(), m.GetGroupId(), m.GetContent())
		e.Message.ClientMsgID = m.GetClientMsgId()
		e.Message.MessageID = events.MessageID(m.GetSender().GetUser(), e.Message.Conversation, m.GetClientMsgId())
		n.w.append(e)
		result.Results = append(result.Results, &millracev1.SendResult{Sent: &millracev1.SendWSMessageResponse{
			MessageId: e.Message.MessageID, Conversation: e.Message.Conversation, Timestamp: 1,
		}})
	}
	for _, c := range b.GetChanges() {
		result.Results = append(result.Results, n.change(c))
	}
	return result
}

func (n *messageNode) LastSeen(_ context.Context, r *millracev1.LastSeenRequest) (*millracev1.LastSeenResponse, error) {
	seen := make(map[int64]int64)
	for _, user := range r.GetUsers() {
		if at, ok := n.lastSeen[user]; ok {
			seen[user] = at
		}
	}
	return &millracev1.LastSeenResponse{LastSeen: seen}, nil
}

func (n *messageNode) Memberships(ctx context.Context, r *millracev1.MembershipsRequest) (*millracev1.MembershipsResponse, error) {
	if n.beforeMemberships != nil {
		n.beforeMemberships()
	}
	if n.stale {
		return &millracev1.MembershipsResponse{}, nil
	}
	return n.w.messages().Memberships(ctx, r)
}

// answer collects what a Sync sends.
type answer struct {
	millracev1.MessageService_SyncServer
	all []*millracev1.SyncResponse
}

func (a *answer) Send(r *millracev1.SyncResponse) error {
	a.all = append(a.all, r)
	return nil
}

func (n *messageNode) Sync(r *millracev1.SyncRequest, stream millracev1.MessageService_SyncServer) error {
	if n.beforeSync != nil {
		n.beforeSync()
	}
	if n.syncDown.Load() {
		return status.Error(codes.Unavailable, "down")
	}
	n.w.set(func(w *world) {
		ends := w.ends()
		for p, seq := range r.GetHandled() {
			if seq > ends[p] {
				panic(fmt.Sprintf("handled %d of partition %d, which ends at %d", seq, p, ends[p]))
			}
		}
	})
	a := &answer{MessageService_SyncServer: stream}
	if err := n.w.messages().Sync(r, a); err != nil {
		return err
	}
	n.syncs.Add(1)
	if n.afterSync != nil {
		n.afterSync()
	}
	for _, response := range a.all {
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}

func (n *messageNode) Ends(context.Context, *millracev1.EndsRequest) (*millracev1.EndsResponse, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return &millracev1.EndsResponse{End: n.w.ends()}, nil
}

func (n *messageNode) ReadLog(r *millracev1.ReadLogRequest, stream millracev1.MessageService_ReadLogServer) error {
	spans, err := n.w.readLog(r)
	if err != nil {
		return err
	}
	for _, span := range spans {
		if err := stream.Send(&millracev1.ReadLogResponse{Span: span}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) readLog(r *millracev1.ReadLogRequest) (spans []*millracev1.Span, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	p, after, through := r.GetPartition(), r.GetAfter(), r.GetThrough()
	if through == 0 {
		through = int64(len(w.logs[p]))
	}
	if through > int64(len(w.logs[p])) {
		panic(fmt.Sprintf("read of partition %d through %d, which ends at %d", p, through, len(w.logs[p])))
	}
	if through-after > w.readLimit {
		return nil, status.Error(codes.OutOfRange, "too long")
	}
	for seq := after; seq < through; {
		next := min(seq+3, through)
		spans = append(spans, &millracev1.Span{Partition: p, After: seq, Through: next, Deliveries: w.logs[p][seq:next]})
		seq = next
	}
	return spans, nil
}

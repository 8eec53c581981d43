package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxMissedBytes bounds what one session is given of what it missed. More counts as too much, like too many.
	maxMissedBytes = 8 << 20
	// syncTimeout leaves time for another node where one hangs.
	syncTimeout    = 2500 * time.Millisecond
	readLogTimeout = 10 * time.Second
)

// synced is a complete answer of Sync.
type synced struct {
	start *millracev1.SyncStart
	spans []*millracev1.Span
	end   *millracev1.SyncEnd
}

// sync asks one node after the other what a user has missed, until one answers completely or the context ends. The answer
// is collected before any of it is used: only its end tells whether the user's groups were known.
func (n *nodes) sync(ctx context.Context, request *millracev1.SyncRequest) (*synced, error) {
	for pause := shortPause; ; pause = min(2*pause, longPause) {
		answer, err := n.syncOnce(ctx, request)
		if err == nil || !transient(err) {
			return answer, err
		}
		if !sleep(ctx, jitter(pause)) {
			return nil, err
		}
	}
}

func (n *nodes) syncOnce(ctx context.Context, request *millracev1.SyncRequest) (*synced, error) {
	var answer *synced
	err := n.call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) error {
		ctx, cancel := context.WithTimeout(ctx, syncTimeout)
		defer cancel()
		stream, err := c.Sync(ctx, request)
		if err != nil {
			return err
		}
		answer, err = collect(stream)
		return err
	})
	return answer, err
}

func collect(stream millracev1.MessageService_SyncClient) (*synced, error) {
	a := &synced{}
	for size := 0; ; {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && a.start != nil && a.end != nil:
			return a, nil
		case errors.Is(err, io.EOF):
			return nil, status.Error(codes.Unavailable, "incomplete answer")
		case err != nil:
			return nil, err
		}
		switch kind := response.GetKind().(type) {
		case *millracev1.SyncResponse_Start:
			a.start = kind.Start
		case *millracev1.SyncResponse_End:
			a.end = kind.End
		case *millracev1.SyncResponse_Deliveries:
			for _, span := range kind.Deliveries.GetSpans() {
				for _, d := range span.GetDeliveries() {
					size += len(d.GetPush())
				}
			}
			a.spans = append(a.spans, kind.Deliveries.GetSpans()...)
			if size > maxMissedBytes && a.start != nil {
				a.start = &millracev1.SyncStart{Cursor: a.start.GetEnd(), End: a.start.GetEnd()}
				a.spans = nil
			}
		}
	}
}

// memberships asks for the user's groups.
func (n *nodes) memberships(ctx context.Context, user int64) ([]*millracev1.Membership, error) {
	var groups []*millracev1.Membership
	err := n.call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) error {
		answer, err := c.Memberships(ctx, &millracev1.MembershipsRequest{User: user})
		groups = answer.GetMemberships()
		return err
	})
	return groups, err
}

// readLog implements logReader over the first node that answers.
func (n *nodes) readLog(ctx context.Context, partition int32, after, through int64, visit func(*millracev1.Span)) error {
	return n.call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) error {
		ctx, cancel := context.WithTimeout(ctx, readLogTimeout)
		defer cancel()
		stream, err := c.ReadLog(ctx, &millracev1.ReadLogRequest{Partition: partition, After: after, Through: through})
		if err != nil {
			return err
		}
		reached := after
		for {
			response, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF) && reached >= through:
				return nil
			case errors.Is(err, io.EOF):
				return fmt.Errorf("read log: ended at %d", reached)
			case err != nil:
				return err
			}
			visit(response.GetSpan())
			reached = response.GetSpan().GetThrough()
		}
	})
}

var _ logReader = (*nodes)(nil)

// transient reports whether the same call may succeed later.
func transient(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.ResourceExhausted, codes.Internal, codes.Unknown:
		return true
	}
	return false
}

package cluster

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
	// pageBytes is how much of what a session missed one call asks for. The next page is asked for when the client has read
	// this one.
	pageBytes = 4 << 20
	// syncTimeout is short enough to leave time for another node if one hangs.
	syncTimeout    = 2500 * time.Millisecond
	readLogTimeout = 10 * time.Second
)

// Synced is a complete response of Sync, or one page of it: see Next.
type Synced struct {
	Start *millracev1.SyncStart
	Spans []*millracev1.Span
	End   *millracev1.SyncEnd
}

// Complete reports whether the response contains everything up to its end.
func (a *Synced) Complete() bool {
	return len(a.Start.GetIncomplete()) == 0 && a.End.GetMembershipsKnown()
}

// Next returns the request for the next page, or nil if this was the last.
func (a *Synced) Next(user int64) *millracev1.SyncRequest {
	through := map[int32]int64{}
	for p := range a.End.GetRest() {
		through[p] = a.Start.GetEnd()[p]
	}
	return &millracev1.SyncRequest{User: user, Resume: true, Cursor: a.End.GetRest(), Through: through}
}

// Sync asks one node after the other what a user has missed, until one responds completely or the context ends. It collects
// the whole response before it returns it, because only the end of the response tells whether the user's groups were known.
func (n *Nodes) Sync(ctx context.Context, request *millracev1.SyncRequest) (*Synced, error) {
	request.PageBytes = pageBytes
	for pause := ShortPause; ; pause = min(2*pause, LongPause) {
		answer, err := n.syncOnce(ctx, request)
		if err == nil || !transient(err) {
			return answer, err
		}
		if !Sleep(ctx, Jitter(pause)) {
			return nil, err
		}
	}
}

func (n *Nodes) syncOnce(ctx context.Context, request *millracev1.SyncRequest) (*Synced, error) {
	var answer *Synced
	err := n.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) error {
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

func collect(stream millracev1.MessageService_SyncClient) (*Synced, error) {
	a := &Synced{}
	for {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && a.Start != nil && a.End != nil:
			return a, nil
		case errors.Is(err, io.EOF):
			return nil, status.Error(codes.Unavailable, "incomplete answer")
		case err != nil:
			return nil, err
		}
		switch kind := response.GetKind().(type) {
		case *millracev1.SyncResponse_Start:
			a.Start = kind.Start
		case *millracev1.SyncResponse_End:
			a.End = kind.End
		case *millracev1.SyncResponse_Deliveries:
			a.Spans = append(a.Spans, kind.Deliveries.GetSpans()...)
		}
	}
}

// Memberships asks for the user's groups, and which of its tokens are revoked.
func (n *Nodes) Memberships(ctx context.Context, user int64) (*millracev1.MembershipsResponse, error) {
	var answer *millracev1.MembershipsResponse
	err := n.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) (err error) {
		answer, err = c.Memberships(ctx, &millracev1.MembershipsRequest{User: user})
		return err
	})
	return answer, err
}

// ReadLog reads the deliveries of all records of a partition in (after, through]. It calls visit for span after span, and has
// reached through when it returns nil.
func (n *Nodes) ReadLog(ctx context.Context, partition int32, after, through int64, visit func(*millracev1.Span)) error {
	return n.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) error {
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

// Ends returns the ends of the log.
func (n *Nodes) Ends(ctx context.Context) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	var end map[int32]int64
	err := n.Call(ctx, func(ctx context.Context, c millracev1.MessageServiceClient) error {
		answer, err := c.Ends(ctx, &millracev1.EndsRequest{})
		end = answer.GetEnd()
		return err
	})
	return end, err
}

// transient reports whether the same call may succeed later.
func transient(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.ResourceExhausted, codes.Internal, codes.Unknown:
		return true
	}
	return false
}

package message

import (
	"context"
	"errors"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	"millrace/infra/pubsub"
	millracev1 "millrace/proto/millrace/v1"
)

const (
	// maxGap is how many records a gap may have that ReadLog reads for a gateway.
	maxGap = 10_000
	// maxReads is how many gaps are read at once. Each holds no more than one frame of deliveries and the ids of the last
	// [pubsub.MaxLookBack] records, half a megabyte, also when its caller is slow: all together 64 MiB.
	maxReads = 128
)

// errFull ends a reading when it has as much as goes into one frame.
var errFull = errors.New("the frame is full")

// ReadLog streams what everybody, not only one user, would have got between two positions, in spans that meet. It reads on as
// the caller takes them. It delivers an event once, unless the event's repeat lies more than 1,000 records behind it. When
// too many calls are being served it returns UNAVAILABLE.
func (s *Service) ReadLog(
	r *millracev1.ReadLogRequest, stream grpc.ServerStreamingServer[millracev1.ReadLogResponse],
) error {
	return statusOf(s.readGap(stream.Context(), r, func(span *millracev1.Span) error {
		return stream.Send(&millracev1.ReadLogResponse{Span: span})
	}))
}

func (s *Service) readGap(ctx context.Context, r *millracev1.ReadLogRequest, send func(*millracev1.Span) error) error {
	gap, err := s.gap(ctx, r)
	if err != nil {
		return err
	}
	if !s.reads.TryAcquire(1) {
		return refuse(codes.Unavailable, "%d gaps are being read", maxReads)
	}
	defer s.reads.Release(1)
	handled, err := lru.New[string, struct{}](pubsub.MaxLookBack)
	if err != nil {
		return err
	}
	if gap.Len() > 0 {
		err := s.lookBack(ctx, events.Position{Partition: gap.Partition, Seq: gap.After}, func(r *logged) error {
			handled.Add(r.EventID, struct{}{})
			return nil
		})
		if err != nil {
			return err
		}
	}
	for {
		span, err := s.nextSpan(ctx, gap, handled)
		if err != nil {
			return err
		}
		if err := send(span); err != nil {
			return err
		}
		if gap.After = span.GetThrough(); gap.After >= gap.Through {
			return nil
		}
	}
}

// gap returns the range that the request asks for, up to the end of the log if the request names no end.
func (s *Service) gap(ctx context.Context, r *millracev1.ReadLogRequest) (gap events.Range, err error) {
	p := r.GetPartition()
	if p < 0 || p >= s.partitions || r.GetAfter() < 0 || r.GetThrough() < 0 {
		return gap, refuse(codes.InvalidArgument, "records of %d from %d to %d", p, r.GetAfter(), r.GetThrough())
	}
	ends, err := s.ends.get(ctx)
	if err != nil {
		return gap, err
	}
	gap = events.Range{Partition: p, After: r.GetAfter(), Through: r.GetThrough()}
	switch {
	case gap.Through == 0:
		gap.Through = max(ends[p], gap.After)
	case gap.Through > ends[p]: // somebody has got the last records before they were removed
		bounds, err := s.bounds.get(ctx)
		if err != nil {
			return gap, err
		}
		if gap.Through > bounds[p].Stable {
			return gap, fmt.Errorf("the log ends at %d:%d, before %d", p, bounds[p].Stable, gap.Through)
		}
	}
	if gap.Len() > maxGap {
		return gap, refuse(codes.OutOfRange, "%d records, more than %d", gap.Len(), maxGap)
	}
	return gap, nil
}

// nextSpan reads from the beginning of the gap as much as goes into one frame, leaving out events that came before.
func (s *Service) nextSpan(
	ctx context.Context, gap events.Range, handled *lru.Cache[string, struct{}],
) (*millracev1.Span, error) {
	span := &millracev1.Span{Partition: gap.Partition, After: gap.After, Through: gap.Through}
	size := 0
	trimmed, err := s.tail.read(ctx, []events.Range{gap}, true, func(r *logged) error {
		if repeat, _ := handled.ContainsOrAdd(r.EventID, struct{}{}); repeat {
			return nil
		}
		d, err := r.delivery()
		if d == nil || err != nil {
			return err
		}
		span.Deliveries = append(span.Deliveries, d)
		if size += proto.Size(d); size < maxFrameBytes {
			return nil
		}
		span.Through = r.Seq
		return errFull
	})
	switch {
	case err != nil && !errors.Is(err, errFull):
		return nil, err
	case len(trimmed) > 0:
		return nil, refuse(codes.OutOfRange, "partition %d after %d: %v", gap.Partition, gap.After, pubsub.ErrTrimmed)
	}
	return span, nil
}

// lookBack visits the records up to the position that a later record may repeat.
func (s *Service) lookBack(ctx context.Context, from events.Position, visit func(*logged) error) error {
	return pubsub.LookBack(from, pubsub.MaxLookBack, func(r events.Range) error {
		trimmed, err := s.tail.read(ctx, []events.Range{r}, false, visit)
		if err == nil && len(trimmed) > 0 {
			return pubsub.ErrTrimmed
		}
		return err
	})
}

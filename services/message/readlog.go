package message

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	millracev1 "millrace/proto/millrace/v1"
)

// maxGap is how many records a gap may have that is read for a gateway.
const maxGap = 10_000

// ReadLog answers what everybody, not one user, would have got between two positions. Of repeats only the first is
// delivered, and none if that lies up to 1,000 records before the gap.
func (s *Service) ReadLog(
	r *millracev1.ReadLogRequest, stream grpc.ServerStreamingServer[millracev1.ReadLogResponse],
) error {
	spans, err := s.gap(stream.Context(), r)
	if err != nil {
		return statusOf(err)
	}
	for _, span := range spans {
		if err := stream.Send(&millracev1.ReadLogResponse{Span: span}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) gap(ctx context.Context, r *millracev1.ReadLogRequest) ([]*millracev1.Span, error) {
	p := r.GetPartition()
	if p < 0 || p >= s.partitions || r.GetAfter() < 0 || r.GetThrough() < 0 {
		return nil, refuse(codes.InvalidArgument, "records of %d from %d to %d", p, r.GetAfter(), r.GetThrough())
	}
	ends, err := s.ends.get(ctx)
	if err != nil {
		return nil, err
	}
	wanted := events.Range{Partition: p, After: r.GetAfter(), Through: r.GetThrough()}
	switch {
	case wanted.Through == 0:
		wanted.Through = max(ends[p], wanted.After)
	case wanted.Through > ends[p]: // the last records may have been removed since somebody was given them
		bounds, err := s.bounds.get(ctx)
		if err != nil {
			return nil, err
		}
		if wanted.Through > bounds[p].Stable {
			return nil, fmt.Errorf("the log ends at %d:%d, before %d", p, bounds[p].Stable, wanted.Through)
		}
	}
	if wanted.Len() > maxGap {
		return nil, refuse(codes.OutOfRange, "%d records, more than %d", wanted.Len(), maxGap)
	}
	handled := make(map[string]struct{})
	if wanted.Len() > 0 {
		err := s.lookBack(ctx, events.Position{Partition: p, Seq: wanted.After}, func(r *logged) error {
			handled[r.EventID] = struct{}{}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var deliveries []*millracev1.Delivery
	size := 0
	trimmed, err := s.tail.read(ctx, []events.Range{wanted}, true, func(r *logged) error {
		if _, repeat := handled[r.EventID]; repeat {
			return nil
		}
		handled[r.EventID] = struct{}{}
		d, err := r.delivery()
		if d == nil || err != nil {
			return err
		}
		deliveries = append(deliveries, d)
		if size += len(d.GetPush()); size > maxCatchBytes {
			return refuse(codes.OutOfRange, "more than %d bytes", maxCatchBytes)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(trimmed) > 0 {
		return nil, refuse(codes.OutOfRange, "partition %d after %d: %v", p, wanted.After, pubsub.ErrTrimmed)
	}
	return cut(p, wanted.After, wanted.Through, deliveries), nil
}

// lookBack visits the records up to the position that one behind it may repeat.
func (s *Service) lookBack(ctx context.Context, from events.Position, visit func(*logged) error) error {
	return pubsub.LookBack(from, func(r events.Range) error {
		trimmed, err := s.tail.read(ctx, []events.Range{r}, false, visit)
		if err == nil && len(trimmed) > 0 {
			return pubsub.ErrTrimmed
		}
		return err
	})
}

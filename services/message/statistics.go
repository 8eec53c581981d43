package message

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/store"
	millracev1 "millrace/proto/millrace/v1"
)

// Figures is the store of what the analytics handler has counted.
type Figures interface {
	// Buckets returns the buckets of the series that begin at the time or later, in ascending order.
	Buckets(ctx context.Context, series string, span store.Span, since int64) ([]store.Bucket, error)
	// Busiest returns the conversations with the most messages in those buckets, the busiest first.
	Busiest(ctx context.Context, series string, span store.Span, since int64, limit int) ([]store.Busy, error)
}

// Statistics is the StatisticsService.
type Statistics struct {
	millracev1.UnimplementedStatisticsServiceServer
	figures Figures
	series  func(version int) string
}

// NewStatistics returns the service. The function returns the series of a version of the handler.
func NewStatistics(figures Figures, series func(version int) string) *Statistics {
	return &Statistics{figures: figures, series: series}
}

const (
	maxBuckets = 1500
	maxBusiest = 1000
)

// Statistics implements the StatisticsService.
func (s *Statistics) Statistics(ctx context.Context, r *millracev1.StatisticsRequest) (*millracev1.StatisticsResponse, error) {
	spans := store.Spans()
	number := int(r.GetSpan()) - 1 // they are numbered in the order of [store.Spans]
	switch {
	case number < 0 || number >= len(spans):
		return nil, status.Error(codes.InvalidArgument, "unknown span")
	case r.GetLast() < 1 || r.GetLast() > maxBuckets:
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("last: want 1 to %d", maxBuckets))
	case r.GetTop() < 0 || r.GetTop() > maxBusiest:
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("top: want 0 to %d", maxBusiest))
	case r.GetVersion() < 0:
		return nil, status.Error(codes.InvalidArgument, "negative version")
	}
	span, series := spans[number], s.series(int(r.GetVersion()))
	since := span.Start(time.Now().Unix()) - int64(r.GetLast()-1)*span.Seconds
	buckets, err := s.figures.Buckets(ctx, series, span, since)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "the store does not answer")
	}
	busiest, err := s.figures.Busiest(ctx, series, span, since, int(r.GetTop()))
	if err != nil {
		return nil, status.Error(codes.Unavailable, "the store does not answer")
	}
	response := &millracev1.StatisticsResponse{}
	for _, b := range buckets {
		response.Buckets = append(response.Buckets, &millracev1.Bucket{
			Start: b.Start, Messages: b.Messages, Users: b.Users, Conversations: b.Conversations,
			Within_2S: b.Within[0], Within_5S: b.Within[1], Within_60S: b.Within[2],
		})
	}
	for _, c := range busiest {
		response.Conversations = append(response.Conversations, &millracev1.BusyConversation{Conversation: c.Conversation, Messages: c.Messages})
	}
	return response, nil
}

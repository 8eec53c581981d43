package api

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/auth"
	"millrace/infra/store"
	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// Store is the part of a store that the API reads itself.
type Store interface {
	// Group returns [store.ErrNotFound] for a group that does not exist.
	Group(ctx context.Context, id int64) (store.Group, error)
	// Participations returns the direct conversations of the user and the groups that it ever belonged to.
	Participations(ctx context.Context, user int64) ([]string, error)
	// Subscriptions returns the subscriptions of those of the users who have any.
	Subscriptions(ctx context.Context, users []int64) (map[int64][]store.Subscription, error)
}

// Service implements the calls of the contract by those of the message service.
type Service struct {
	apiv1.UnimplementedApiServiceServer

	Messages   millracev1.MessageServiceServer
	Statistics millracev1.StatisticsServiceServer
	Store      Store
	// Sign returns a token of the user. It is nil if this process has no secret to sign with.
	Sign func(auth.Identity) (string, error)
	// SystemUser is the sender of what the system sends; 0: the system sends nothing.
	SystemUser int64
}

const (
	defaultTokenLife = 24 * time.Hour
	maxTokenLife     = 30 * 24 * time.Hour
)

// IssueToken implements the call of the contract.
func (s *Service) IssueToken(_ context.Context, r *apiv1.IssueTokenRequest) (*apiv1.IssueTokenResponse, error) {
	life := time.Duration(r.GetTtlSeconds()) * time.Second
	switch {
	case s.Sign == nil:
		return nil, status.Error(codes.FailedPrecondition, "this server has no secret to sign tokens with: set MILLRACE_JWT_SECRET")
	case r.GetTtlSeconds() < 0 || r.GetTtlSeconds() > int64(maxTokenLife/time.Second):
		return nil, status.Errorf(codes.InvalidArgument, "ttl_seconds is not between 0 and %d", int64(maxTokenLife/time.Second))
	case life == 0:
		life = defaultTokenLife
	}
	if err := checkID("user", r.GetUser()); err != nil {
		return nil, err
	}
	id := auth.Identity{User: r.GetUser(), UserType: r.GetUserType(), Region: r.GetRegion(), Expires: time.Now().Add(life)}
	token, err := s.Sign(id)
	if err != nil {
		return nil, status.Error(codes.Internal, "the token could not be signed")
	}
	return &apiv1.IssueTokenResponse{Token: token, Expires: id.Expires.Unix()}, nil
}

// GetStatistics implements the call of the contract.
func (s *Service) GetStatistics(ctx context.Context, r *apiv1.GetStatisticsRequest) (*apiv1.GetStatisticsResponse, error) {
	span := millracev1.StatisticsSpan(store.SpanNumber(r.GetSpan()))
	if span == millracev1.StatisticsSpan_STATISTICS_SPAN_UNSPECIFIED {
		return nil, status.Error(codes.InvalidArgument, "span is none of minute, hour and day")
	}
	counted, err := s.Statistics.Statistics(ctx, &millracev1.StatisticsRequest{Span: span, Last: r.GetLast(), Top: r.GetTop()})
	if err != nil {
		return nil, err
	}
	response := &apiv1.GetStatisticsResponse{}
	for _, b := range counted.GetBuckets() {
		response.Buckets = append(response.Buckets, &apiv1.Bucket{
			Start: b.GetStart(), Messages: b.GetMessages(), Users: b.GetUsers(), Conversations: b.GetConversations(),
		})
	}
	for _, c := range counted.GetConversations() {
		response.Conversations = append(response.Conversations, &apiv1.BusyConversation{
			Conversation: c.GetConversation(), Messages: c.GetMessages(),
		})
	}
	return response, nil
}

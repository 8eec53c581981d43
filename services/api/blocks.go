package api

import (
	"context"

	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// BlockUser implements the call of the contract.
func (s *Service) BlockUser(ctx context.Context, r *apiv1.BlockUserRequest) (*apiv1.BlockUserResponse, error) {
	_, err := s.Messages.Block(ctx, &millracev1.BlockRequest{Sender: &millracev1.Sender{User: r.GetUser()}, User: r.GetBlocked()})
	return &apiv1.BlockUserResponse{}, err
}

// UnblockUser implements the call of the contract.
func (s *Service) UnblockUser(ctx context.Context, r *apiv1.UnblockUserRequest) (*apiv1.UnblockUserResponse, error) {
	_, err := s.Messages.Unblock(ctx, &millracev1.UnblockRequest{Sender: &millracev1.Sender{User: r.GetUser()}, User: r.GetBlocked()})
	return &apiv1.UnblockUserResponse{}, err
}

// ListBlocked implements the call of the contract.
func (s *Service) ListBlocked(ctx context.Context, r *apiv1.ListBlockedRequest) (*apiv1.ListBlockedResponse, error) {
	blocked, err := s.Messages.Blocked(ctx, &millracev1.BlockedRequest{User: r.GetUser()})
	return &apiv1.ListBlockedResponse{Users: blocked.GetUsers()}, err
}

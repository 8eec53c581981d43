package api

import (
	"context"

	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// RevokeTokens implements the call of the contract.
func (o *Operator) RevokeTokens(ctx context.Context, r *apiv1.RevokeTokensRequest) (*apiv1.RevokeTokensResponse, error) {
	if err := checkID("user", r.GetUser()); err != nil {
		return nil, err
	}
	revoked, err := o.Nodes.RevokeTokens(ctx, &millracev1.RevokeTokensRequest{User: r.GetUser(), Before: r.GetBefore()})
	return &apiv1.RevokeTokensResponse{Before: revoked.GetBefore()}, err
}

// EraseUser implements the call of the contract.
func (o *Operator) EraseUser(ctx context.Context, r *apiv1.EraseUserRequest) (*apiv1.EraseUserResponse, error) {
	if err := checkID("user", r.GetUser()); err != nil {
		return nil, err
	}
	erased, err := o.Nodes.EraseUser(ctx, &millracev1.EraseUserRequest{User: r.GetUser(), Next: r.GetNext()})
	return &apiv1.EraseUserResponse{Messages: erased.GetMessages(), Next: erased.GetNext()}, err
}

// SendNotice implements the call of the contract.
func (o *Operator) SendNotice(ctx context.Context, r *apiv1.SendNoticeRequest) (*apiv1.SendNoticeResponse, error) {
	extra, err := encode(r.GetExtra())
	if err != nil {
		return nil, err
	}
	sent, err := o.Nodes.SendNotice(ctx, &millracev1.SendNoticeRequest{
		NoticeId: r.GetNoticeId(), Content: r.GetContent(), Extra: extra, Users: r.GetUsers(), UserType: r.GetUserType(), Region: r.GetRegion(),
	})
	return &apiv1.SendNoticeResponse{NoticeId: sent.GetNoticeId()}, err
}

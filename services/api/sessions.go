package api

import (
	"cmp"
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// ListSessions implements the call of the contract.
func (o *Operator) ListSessions(ctx context.Context, r *apiv1.ListSessionsRequest) (*apiv1.ListSessionsResponse, error) {
	if r.GetLimit() < 0 || r.GetLimit() > maxChoice {
		return nil, status.Errorf(codes.InvalidArgument, "limit is not between 0 and %d", maxChoice)
	}
	if r.GetUser() != 0 {
		if err := checkID("user", r.GetUser()); err != nil {
			return nil, err
		}
	}
	limit := cmp.Or(r.GetLimit(), defaultChoice)
	known, err := o.Connections(ctx, &millracev1.ConnectionsRequest{User: r.GetUser(), Limit: limit})
	if err != nil {
		return nil, err
	}
	response := &apiv1.ListSessionsResponse{More: known.GetMore()}
	for _, g := range known.GetGateways() {
		response.Gateways = append(response.Gateways, &apiv1.Gateway{
			Name: g.GetName(), Users: g.GetUsers(), Sessions: g.GetSessions(), Silent: g.GetSilent(),
		})
	}
	for _, s := range known.GetSessions() {
		response.Sessions = append(response.Sessions, &apiv1.Session{
			Session: s.GetSession(), User: s.GetUser(), Device: s.GetDevice(), Gateway: s.GetGateway(), Since: s.GetSince(),
			QueuedBytes: s.GetQueuedBytes(),
		})
	}
	return response, nil
}

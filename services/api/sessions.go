package api

import (
	"cmp"
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// Gateways is the part of a push node that knows the gateways that are attached to it.
type Gateways interface {
	Connections(ctx context.Context, r *millracev1.ConnectionsRequest) (*millracev1.ConnectionsResponse, error)
	Disconnect(ctx context.Context, r *millracev1.DisconnectRequest) (*millracev1.DisconnectResponse, error)
}

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
	known, err := o.Gateways.Connections(ctx, &millracev1.ConnectionsRequest{User: r.GetUser(), Limit: limit})
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

// DisconnectUser implements the call of the contract.
func (o *Operator) DisconnectUser(ctx context.Context, r *apiv1.DisconnectUserRequest) (*apiv1.DisconnectUserResponse, error) {
	if err := checkID("user", r.GetUser()); err != nil {
		return nil, err
	}
	done, err := o.Gateways.Disconnect(ctx, &millracev1.DisconnectRequest{User: r.GetUser(), Device: r.GetDevice()})
	if err != nil {
		return nil, err
	}
	return &apiv1.DisconnectUserResponse{Closed: done.GetClosed()}, nil
}

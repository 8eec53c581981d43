package api

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/store"
	apiv1 "millrace/proto/millrace/api/v1"
	millracev1 "millrace/proto/millrace/v1"
)

// CreateGroup implements the call of the contract.
func (s *Service) CreateGroup(ctx context.Context, r *apiv1.CreateGroupRequest) (*apiv1.CreateGroupResponse, error) {
	created, err := s.Messages.CreateGroup(ctx, &millracev1.CreateGroupRequest{
		Sender: &millracev1.Sender{User: r.GetOwner()}, Name: r.GetName(), Members: r.GetMembers(), Open: r.GetOpen(), ClientMsgId: r.GetClientMsgId(),
	})
	return &apiv1.CreateGroupResponse{Group: group(created.GetGroup())}, err
}

// GetGroup implements the call of the contract.
func (s *Service) GetGroup(ctx context.Context, r *apiv1.GetGroupRequest) (*apiv1.GetGroupResponse, error) {
	owner, err := s.inNameOf(ctx, r.GetGroupId(), 0)
	if err != nil {
		return nil, err
	}
	got, err := s.Messages.GetGroup(ctx, &millracev1.GetGroupRequest{User: owner, GroupId: r.GetGroupId()})
	return &apiv1.GetGroupResponse{Group: group(got.GetGroup())}, err
}

// RenameGroup implements the call of the contract.
func (s *Service) RenameGroup(ctx context.Context, r *apiv1.RenameGroupRequest) (*apiv1.RenameGroupResponse, error) {
	by, err := s.inNameOf(ctx, r.GetGroupId(), r.GetBy())
	if err != nil {
		return nil, err
	}
	renamed, err := s.Messages.RenameGroup(ctx, &millracev1.RenameGroupRequest{
		Sender: &millracev1.Sender{User: by}, GroupId: r.GetGroupId(), Name: r.GetName(),
	})
	return &apiv1.RenameGroupResponse{Group: group(renamed.GetGroup())}, err
}

// DissolveGroup implements the call of the contract.
func (s *Service) DissolveGroup(ctx context.Context, r *apiv1.DissolveGroupRequest) (*apiv1.DissolveGroupResponse, error) {
	owner, err := s.inNameOf(ctx, r.GetGroupId(), 0)
	if err != nil {
		return nil, err
	}
	_, err = s.Messages.DissolveGroup(ctx, &millracev1.DissolveGroupRequest{
		Sender: &millracev1.Sender{User: owner}, GroupId: r.GetGroupId(),
	})
	return &apiv1.DissolveGroupResponse{}, err
}

// AddMember implements the call of the contract.
func (s *Service) AddMember(ctx context.Context, r *apiv1.AddMemberRequest) (*apiv1.AddMemberResponse, error) {
	by, err := s.inNameOf(ctx, r.GetGroupId(), r.GetBy())
	if err != nil {
		return nil, err
	}
	changed, err := s.Messages.AddMember(ctx, &millracev1.AddMemberRequest{
		Sender: &millracev1.Sender{User: by}, GroupId: r.GetGroupId(), User: r.GetUser(),
	})
	return &apiv1.AddMemberResponse{Group: group(changed.GetGroup())}, err
}

// RemoveMember implements the call of the contract.
func (s *Service) RemoveMember(ctx context.Context, r *apiv1.RemoveMemberRequest) (*apiv1.RemoveMemberResponse, error) {
	by, err := s.inNameOf(ctx, r.GetGroupId(), r.GetBy())
	if err != nil {
		return nil, err
	}
	if by == r.GetUser() {
		_, err = s.Messages.LeaveGroup(ctx, &millracev1.LeaveGroupRequest{
			Sender: &millracev1.Sender{User: by}, GroupId: r.GetGroupId(),
		})
	} else {
		_, err = s.Messages.RemoveMember(ctx, &millracev1.RemoveMemberRequest{
			Sender: &millracev1.Sender{User: by}, GroupId: r.GetGroupId(), User: r.GetUser(),
		})
	}
	return &apiv1.RemoveMemberResponse{}, err
}

// ChangeRole implements the call of the contract.
func (s *Service) ChangeRole(ctx context.Context, r *apiv1.ChangeRoleRequest) (*apiv1.ChangeRoleResponse, error) {
	owner, err := s.inNameOf(ctx, r.GetGroupId(), 0)
	if err != nil {
		return nil, err
	}
	changed, err := s.Messages.ChangeRole(ctx, &millracev1.ChangeRoleRequest{
		Sender: &millracev1.Sender{User: owner}, GroupId: r.GetGroupId(), User: r.GetUser(), Role: r.GetRole(),
	})
	return &apiv1.ChangeRoleResponse{Group: group(changed.GetGroup())}, err
}

// MuteMember implements the call of the contract.
func (s *Service) MuteMember(ctx context.Context, r *apiv1.MuteMemberRequest) (*apiv1.MuteMemberResponse, error) {
	by, err := s.inNameOf(ctx, r.GetGroupId(), r.GetBy())
	if err != nil {
		return nil, err
	}
	changed, err := s.Messages.MuteMember(ctx, &millracev1.MuteMemberRequest{
		Sender: &millracev1.Sender{User: by}, GroupId: r.GetGroupId(), User: r.GetUser(), Until: r.GetUntil(),
	})
	return &apiv1.MuteMemberResponse{Group: group(changed.GetGroup())}, err
}

// inNameOf returns the user in whose name the group is used: by or, if that is 0, the group's owner.
func (s *Service) inNameOf(ctx context.Context, id, by int64) (int64, error) {
	if by != 0 {
		return by, nil
	}
	if err := checkID("group_id", id); err != nil {
		return 0, err
	}
	g, err := s.Store.Group(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, status.Error(codes.NotFound, "no such group")
	case err != nil:
		return 0, status.Error(codes.Unavailable, "the store cannot be read")
	}
	return g.Grants.Owner(), nil
}

func group(g *millracev1.Group) *apiv1.Group {
	return &apiv1.Group{
		GroupId: g.GetGroupId(), Name: g.GetName(), Owner: g.GetOwner(), Members: g.GetMembers(), Open: g.GetOpen(),
		Admins: g.GetAdmins(), Muted: g.GetMuted(), MutedUntil: g.GetMutedUntil(),
	}
}

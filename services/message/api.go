package message

import (
	"context"

	"google.golang.org/grpc/codes"

	millracev1 "millrace/proto/millrace/v1"
)

// This file has the calls with one request and one response; it turns their errors into statuses. SendWSMessage, SendBatches,
// Sync and ReadLog are in the files send, batches, sync and readlog.

// maxSeen is how many users one LastSeen may ask about, as many as a connection may watch.
const maxSeen = 1000

// History implements the call of the contract.
func (s *Service) History(ctx context.Context, r *millracev1.HistoryRequest) (*millracev1.HistoryResponse, error) {
	return answer(s.history(ctx, r))
}

// Conversations implements the call of the contract.
func (s *Service) Conversations(
	ctx context.Context, r *millracev1.ConversationsRequest,
) (*millracev1.ConversationsResponse, error) {
	return answer(s.conversations(ctx, r))
}

// MarkRead implements the call of the contract.
func (s *Service) MarkRead(ctx context.Context, r *millracev1.MarkReadRequest) (*millracev1.MarkReadResponse, error) {
	return answer(&millracev1.MarkReadResponse{}, s.markRead(ctx, r))
}

// ChangeSettings implements the call of the contract.
func (s *Service) ChangeSettings(
	ctx context.Context, r *millracev1.ChangeSettingsRequest,
) (*millracev1.ChangeSettingsResponse, error) {
	return answer(&millracev1.ChangeSettingsResponse{}, s.changeSettings(ctx, r))
}

// Readers implements the call of the contract.
func (s *Service) Readers(ctx context.Context, r *millracev1.ReadersRequest) (*millracev1.ReadersResponse, error) {
	return answer(s.readers(ctx, r))
}

// EditMessage implements the call of the contract.
func (s *Service) EditMessage(
	ctx context.Context, r *millracev1.EditMessageRequest,
) (*millracev1.EditMessageResponse, error) {
	return answer(&millracev1.EditMessageResponse{}, s.editMessage(ctx, r))
}

// RecallMessage implements the call of the contract.
func (s *Service) RecallMessage(
	ctx context.Context, r *millracev1.RecallMessageRequest,
) (*millracev1.RecallMessageResponse, error) {
	return answer(&millracev1.RecallMessageResponse{}, s.recallMessage(ctx, r))
}

// Memberships implements the call of the contract.
func (s *Service) Memberships(
	ctx context.Context, r *millracev1.MembershipsRequest,
) (*millracev1.MembershipsResponse, error) {
	return answer(s.memberships(ctx, r))
}

// Ends implements the call of the contract.
func (s *Service) Ends(ctx context.Context, _ *millracev1.EndsRequest) (*millracev1.EndsResponse, error) {
	end, err := s.ends.get(ctx)
	return answer(&millracev1.EndsResponse{End: end}, err)
}

// LastSeen implements the call of the contract.
func (s *Service) LastSeen(ctx context.Context, r *millracev1.LastSeenRequest) (*millracev1.LastSeenResponse, error) {
	if n := len(r.GetUsers()); n > maxSeen {
		return nil, statusOf(refuse(codes.OutOfRange, "%d users, more than %d", n, maxSeen))
	}
	seen, err := s.store.LastSeen(ctx, r.GetUsers())
	response := &millracev1.LastSeenResponse{LastSeen: make(map[int64]int64, len(seen))}
	for user, last := range seen {
		response.LastSeen[user] = last.Timestamp
	}
	return answer(response, err)
}

// SubscribePush implements the call of the contract.
func (s *Service) SubscribePush(
	ctx context.Context, r *millracev1.SubscribePushRequest,
) (*millracev1.SubscribePushResponse, error) {
	return answer(&millracev1.SubscribePushResponse{}, s.subscribePush(ctx, r))
}

// UnsubscribePush implements the call of the contract.
func (s *Service) UnsubscribePush(
	ctx context.Context, r *millracev1.UnsubscribePushRequest,
) (*millracev1.UnsubscribePushResponse, error) {
	return answer(&millracev1.UnsubscribePushResponse{}, s.unsubscribePush(ctx, r))
}

// Block implements the call of the contract.
func (s *Service) Block(ctx context.Context, r *millracev1.BlockRequest) (*millracev1.BlockResponse, error) {
	return answer(&millracev1.BlockResponse{}, s.block(ctx, r))
}

// Unblock implements the call of the contract.
func (s *Service) Unblock(ctx context.Context, r *millracev1.UnblockRequest) (*millracev1.UnblockResponse, error) {
	return answer(&millracev1.UnblockResponse{}, s.unblock(ctx, r))
}

// Blocked implements the call of the contract.
func (s *Service) Blocked(ctx context.Context, r *millracev1.BlockedRequest) (*millracev1.BlockedResponse, error) {
	return answer(s.blocked(ctx, r))
}

// BlockedBy implements the call of the contract.
func (s *Service) BlockedBy(ctx context.Context, r *millracev1.BlockedByRequest) (*millracev1.BlockedByResponse, error) {
	return answer(s.blockedBy(ctx, r))
}

// CreateGroup implements the call of the contract.
func (s *Service) CreateGroup(
	ctx context.Context, r *millracev1.CreateGroupRequest,
) (*millracev1.CreateGroupResponse, error) {
	g, err := s.createGroup(ctx, r)
	return answer(&millracev1.CreateGroupResponse{Group: g}, err)
}

// GetGroup implements the call of the contract.
func (s *Service) GetGroup(ctx context.Context, r *millracev1.GetGroupRequest) (*millracev1.GetGroupResponse, error) {
	g, err := s.getGroup(ctx, r)
	return answer(&millracev1.GetGroupResponse{Group: g}, err)
}

// JoinGroup implements the call of the contract.
func (s *Service) JoinGroup(ctx context.Context, r *millracev1.JoinGroupRequest) (*millracev1.JoinGroupResponse, error) {
	g, err := s.joinGroup(ctx, r)
	return answer(&millracev1.JoinGroupResponse{Group: g}, err)
}

// LeaveGroup implements the call of the contract.
func (s *Service) LeaveGroup(
	ctx context.Context, r *millracev1.LeaveGroupRequest,
) (*millracev1.LeaveGroupResponse, error) {
	return answer(&millracev1.LeaveGroupResponse{}, s.leaveGroup(ctx, r))
}

// AddMember implements the call of the contract.
func (s *Service) AddMember(ctx context.Context, r *millracev1.AddMemberRequest) (*millracev1.AddMemberResponse, error) {
	g, err := s.addMember(ctx, r)
	return answer(&millracev1.AddMemberResponse{Group: g}, err)
}

// RenameGroup implements the call of the contract.
func (s *Service) RenameGroup(
	ctx context.Context, r *millracev1.RenameGroupRequest,
) (*millracev1.RenameGroupResponse, error) {
	g, err := s.renameGroup(ctx, r)
	return answer(&millracev1.RenameGroupResponse{Group: g}, err)
}

// DissolveGroup implements the call of the contract.
func (s *Service) DissolveGroup(
	ctx context.Context, r *millracev1.DissolveGroupRequest,
) (*millracev1.DissolveGroupResponse, error) {
	return answer(&millracev1.DissolveGroupResponse{}, s.dissolveGroup(ctx, r))
}

// ChangeRole implements the call of the contract.
func (s *Service) ChangeRole(ctx context.Context, r *millracev1.ChangeRoleRequest) (*millracev1.ChangeRoleResponse, error) {
	g, err := s.changeRole(ctx, r)
	return answer(&millracev1.ChangeRoleResponse{Group: g}, err)
}

// MuteMember implements the call of the contract.
func (s *Service) MuteMember(ctx context.Context, r *millracev1.MuteMemberRequest) (*millracev1.MuteMemberResponse, error) {
	g, err := s.muteMember(ctx, r)
	return answer(&millracev1.MuteMemberResponse{Group: g}, err)
}

// RemoveMember implements the call of the contract.
func (s *Service) RemoveMember(
	ctx context.Context, r *millracev1.RemoveMemberRequest,
) (*millracev1.RemoveMemberResponse, error) {
	g, err := s.removeMember(ctx, r)
	return answer(&millracev1.RemoveMemberResponse{Group: g}, err)
}

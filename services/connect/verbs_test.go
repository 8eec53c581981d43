package connect_test

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millracev1 "millrace/proto/millrace/v1"
)

// This file has the other calls of the fake MessageService. They return what the tests of the verbs expect, if they were
// called as expected.

func expect[T any](ok bool, answer *T) (*T, error) {
	if !ok {
		return nil, status.Error(codes.Internal, "not what was to be asked")
	}
	return answer, nil
}

// change makes the call for the change.
func (n *messageNode) change(c *millracev1.Change) *millracev1.SendResult {
	ctx := context.Background()
	var answer any
	var err error
	switch kind := c.GetKind().(type) {
	case *millracev1.Change_Edit:
		answer, err = n.EditMessage(ctx, kind.Edit)
	case *millracev1.Change_Recall:
		answer, err = n.RecallMessage(ctx, kind.Recall)
	case *millracev1.Change_Read:
		answer, err = n.MarkRead(ctx, kind.Read)
	case *millracev1.Change_CreateGroup:
		answer, err = n.CreateGroup(ctx, kind.CreateGroup)
	case *millracev1.Change_JoinGroup:
		answer, err = n.JoinGroup(ctx, kind.JoinGroup)
	case *millracev1.Change_LeaveGroup:
		answer, err = n.LeaveGroup(ctx, kind.LeaveGroup)
	case *millracev1.Change_AddMember:
		answer, err = n.AddMember(ctx, kind.AddMember)
	case *millracev1.Change_Settings:
		answer, err = n.ChangeSettings(ctx, kind.Settings)
	case *millracev1.Change_ChangeRole:
		answer, err = n.ChangeRole(ctx, kind.ChangeRole)
	case *millracev1.Change_MuteMember:
		answer, err = n.MuteMember(ctx, kind.MuteMember)
	case *millracev1.Change_RenameGroup:
		answer, err = n.RenameGroup(ctx, kind.RenameGroup)
	case *millracev1.Change_DissolveGroup:
		answer, err = n.DissolveGroup(ctx, kind.DissolveGroup)
	case *millracev1.Change_RemoveMember:
		answer, err = n.RemoveMember(ctx, kind.RemoveMember)
	case *millracev1.Change_Block:
		n.setBlock(kind.Block.GetSender().GetUser(), kind.Block.GetUser(), true)
	case *millracev1.Change_Unblock:
		n.setBlock(kind.Unblock.GetSender().GetUser(), kind.Unblock.GetUser(), false)
	}
	if err != nil {
		return &millracev1.SendResult{Code: int32(status.Code(err)), Error: status.Convert(err).Message()}
	}
	result := &millracev1.SendResult{}
	if group, ok := answer.(interface{ GetGroup() *millracev1.Group }); ok {
		result.Group = group.GetGroup()
	}
	return result
}

func us(members ...int64) *millracev1.Group {
	return &millracev1.Group{GroupId: 7, Name: "us", Owner: 1, Members: members}
}

func recalled() *millracev1.StoredMessage {
	return &millracev1.StoredMessage{Seq: 2, MessageId: "m2", Recalled: true}
}

func (n *messageNode) History(_ context.Context, r *millracev1.HistoryRequest) (*millracev1.HistoryResponse, error) {
	if r.GetLimit() == 1 {
		return n.w.newest(r.GetConversation()), nil
	}
	ok := r.GetUser() == 1 && r.GetConversation() == "u:1:2" && r.AfterSeq != nil && r.BeforeSeq == nil && r.GetLimit() == 2
	return expect(ok, &millracev1.HistoryResponse{More: true, Messages: []*millracev1.StoredMessage{
		{
			Seq: 1, MessageId: "m1", ClientMsgId: "c1", From: 1, To: 2, Content: "hi", MessageType: 1, Timestamp: 5, EditedAt: 6,
		},
		recalled(),
	}})
}

func (n *messageNode) Conversations(
	_ context.Context, r *millracev1.ConversationsRequest,
) (*millracev1.ConversationsResponse, error) {
	list := &millracev1.ConversationsResponse{Conversations: []*millracev1.ConversationHead{
		{Conversation: "g:7", Last: recalled(), Unread: 3, ReadSeq: 4, Next: "n1"},
	}, More: r.GetNext() == "n0"}
	return expect(r.GetUser() == 1, list)
}

func (n *messageNode) MarkRead(_ context.Context, r *millracev1.MarkReadRequest) (*millracev1.MarkReadResponse, error) {
	return expect(r.GetUser() == 1 && r.GetConversation() == "u:1:2" && r.GetSeq() == 3, &millracev1.MarkReadResponse{})
}

func (n *messageNode) RecallMessage(
	_ context.Context, r *millracev1.RecallMessageRequest,
) (*millracev1.RecallMessageResponse, error) {
	return expect(r.GetUser() == 1 && r.GetMessageId() == "m1", &millracev1.RecallMessageResponse{})
}

func (n *messageNode) EditMessage(
	_ context.Context, r *millracev1.EditMessageRequest,
) (*millracev1.EditMessageResponse, error) {
	return expect(r.GetUser() == 1 && r.GetMessageId() == "m1" && r.GetContent() == "x", &millracev1.EditMessageResponse{})
}

func (n *messageNode) CreateGroup(
	_ context.Context, r *millracev1.CreateGroupRequest,
) (*millracev1.CreateGroupResponse, error) {
	ok := r.GetSender().GetUser() == 1 && r.GetSender().GetRegion() == "eu" && r.GetName() == "us" && r.GetClientMsgId() == "c"
	g := us(1, 2)
	g.Open = r.GetOpen()
	return expect(ok && len(r.GetMembers()) == 1, &millracev1.CreateGroupResponse{Group: g})
}

func (n *messageNode) GetGroup(_ context.Context, r *millracev1.GetGroupRequest) (*millracev1.GetGroupResponse, error) {
	return expect(r.GetUser() == 1 && r.GetGroupId() == 7, &millracev1.GetGroupResponse{Group: us()})
}

func (n *messageNode) JoinGroup(_ context.Context, r *millracev1.JoinGroupRequest) (*millracev1.JoinGroupResponse, error) {
	return expect(r.GetSender().GetUser() == 1 && r.GetGroupId() == 7, &millracev1.JoinGroupResponse{Group: us()})
}

func (n *messageNode) LeaveGroup(_ context.Context, r *millracev1.LeaveGroupRequest) (*millracev1.LeaveGroupResponse, error) {
	return expect(r.GetSender().GetUser() == 1 && r.GetGroupId() == 7, &millracev1.LeaveGroupResponse{})
}

func (n *messageNode) AddMember(_ context.Context, r *millracev1.AddMemberRequest) (*millracev1.AddMemberResponse, error) {
	return expect(r.GetSender().GetUser() == 1 && r.GetUser() == 3, &millracev1.AddMemberResponse{Group: us()})
}

func (n *messageNode) RemoveMember(
	context.Context, *millracev1.RemoveMemberRequest,
) (*millracev1.RemoveMemberResponse, error) {
	return nil, status.Error(codes.PermissionDenied, "not the owner")
}

func (n *messageNode) ChangeRole(_ context.Context, r *millracev1.ChangeRoleRequest) (*millracev1.ChangeRoleResponse, error) {
	g := us(1, 3)
	g.Admins = []int64{3}
	asked := r.GetSender().GetUser() == 1 && r.GetGroupId() == 7 && r.GetUser() == 3
	return expect(asked && r.GetRole() == "admin" && r.GetClientMsgId() == "c", &millracev1.ChangeRoleResponse{Group: g})
}

func (n *messageNode) MuteMember(_ context.Context, r *millracev1.MuteMemberRequest) (*millracev1.MuteMemberResponse, error) {
	g := us(1, 3)
	if g.MutedUntil = r.GetUntil(); r.GetUser() != 0 {
		g.Muted, g.MutedUntil = map[int64]int64{r.GetUser(): r.GetUntil()}, 0
	}
	asked := r.GetSender().GetUser() == 1 && r.GetGroupId() == 7 && r.GetClientMsgId() != ""
	return expect(asked, &millracev1.MuteMemberResponse{Group: g})
}

func (n *messageNode) RenameGroup(_ context.Context, r *millracev1.RenameGroupRequest) (*millracev1.RenameGroupResponse, error) {
	g := us()
	g.Name = r.GetName()
	return expect(r.GetSender().GetUser() == 1 && r.GetGroupId() == 7 && r.GetClientMsgId() != "", &millracev1.RenameGroupResponse{Group: g})
}

func (n *messageNode) DissolveGroup(
	_ context.Context, r *millracev1.DissolveGroupRequest,
) (*millracev1.DissolveGroupResponse, error) {
	return expect(r.GetSender().GetUser() == 1 && r.GetGroupId() == 7, &millracev1.DissolveGroupResponse{})
}

func (n *messageNode) Readers(_ context.Context, r *millracev1.ReadersRequest) (*millracev1.ReadersResponse, error) {
	return expect(r.GetUser() == 1 && r.GetConversation() == "u:1:2" && r.GetSeq() == 3,
		&millracev1.ReadersResponse{Readers: []*millracev1.Reader{{User: 2, Seq: 4}}})
}

func (n *messageNode) SubscribePush(
	_ context.Context, r *millracev1.SubscribePushRequest,
) (*millracev1.SubscribePushResponse, error) {
	return expect(r.GetUser() == 1 && r.GetEndpoint() == "https://p.example/1" && r.GetP256Dh() == "k" && r.GetAuth() == "a",
		&millracev1.SubscribePushResponse{})
}

func (n *messageNode) UnsubscribePush(
	_ context.Context, r *millracev1.UnsubscribePushRequest,
) (*millracev1.UnsubscribePushResponse, error) {
	if r.GetEndpoint() == "" {
		return nil, status.Error(codes.InvalidArgument, "no endpoint")
	}
	return expect(r.GetUser() == 1, &millracev1.UnsubscribePushResponse{})
}

func (n *messageNode) ChangeSettings(
	_ context.Context, r *millracev1.ChangeSettingsRequest,
) (*millracev1.ChangeSettingsResponse, error) {
	asked := r.MutedUntil != nil && r.GetMutedUntil() == 0 && r.GetPinned() && r.Hidden == nil
	return expect(r.GetUser() == 1 && r.GetConversation() == "u:1:2" && asked, &millracev1.ChangeSettingsResponse{})
}

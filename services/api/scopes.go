package api

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/infra/auth"
	apiv1 "millrace/proto/millrace/api/v1"
)

// scopes returns the scopes that a key must have, by method. A method that is absent is permitted to nobody.
func scopes() map[string][]auth.Scope {
	read, send, admin := []auth.Scope{auth.ScopeRead}, []auth.Scope{auth.ScopeSend}, []auth.Scope{auth.ScopeAdmin}
	return map[string][]auth.Scope{
		apiv1.ApiService_SendMessage_FullMethodName:       send,
		apiv1.ApiService_ListMessages_FullMethodName:      read,
		apiv1.ApiService_EditMessage_FullMethodName:       send,
		apiv1.ApiService_RecallMessage_FullMethodName:     send,
		apiv1.ApiService_ListConversations_FullMethodName: read,
		apiv1.ApiService_ListReaders_FullMethodName:       read,
		apiv1.ApiService_CreateGroup_FullMethodName:       send,
		apiv1.ApiService_GetGroup_FullMethodName:          read,
		apiv1.ApiService_RenameGroup_FullMethodName:       send,
		apiv1.ApiService_DissolveGroup_FullMethodName:     send,
		apiv1.ApiService_AddMember_FullMethodName:         send,
		apiv1.ApiService_RemoveMember_FullMethodName:      send,
		apiv1.ApiService_ChangeRole_FullMethodName:        send,
		apiv1.ApiService_MuteMember_FullMethodName:        send,
		apiv1.ApiService_BlockUser_FullMethodName:         send,
		apiv1.ApiService_UnblockUser_FullMethodName:       send,
		apiv1.ApiService_ListBlocked_FullMethodName:       read,
		apiv1.ApiService_IssueToken_FullMethodName:        {auth.ScopeRead, auth.ScopeSend},
		apiv1.ApiService_GetStatistics_FullMethodName:     read,

		apiv1.OperatorService_ListHandlers_FullMethodName:        read,
		apiv1.OperatorService_ListPartitions_FullMethodName:      read,
		apiv1.OperatorService_InspectConversation_FullMethodName: read,
		apiv1.OperatorService_ListRules_FullMethodName:           read,
		apiv1.OperatorService_ListSessions_FullMethodName:        read,
		apiv1.OperatorService_DisconnectUser_FullMethodName:      admin,
		apiv1.OperatorService_RevokeTokens_FullMethodName:        admin,
		apiv1.OperatorService_EraseUser_FullMethodName:           admin,
		apiv1.OperatorService_SendNotice_FullMethodName:          admin,
		apiv1.OperatorService_ListPoisoned_FullMethodName:        read,
		apiv1.OperatorService_GetPoisoned_FullMethodName:         admin,
		apiv1.OperatorService_ReplayPoisoned_FullMethodName:      admin,
		apiv1.OperatorService_DiscardPoisoned_FullMethodName:     admin,
	}
}

// authorize returns an interceptor that passes on the calls that the caller's key permits. It logs the others. Each call by a key
// that permits everything is recorded before, and logged with its outcome.
func authorize(scopes map[string][]auth.Scope, operations *operations, log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		key, ok := caller(ctx)
		needed, known := scopes[info.FullMethod]
		if !ok || !known {
			return nil, status.Error(codes.PermissionDenied, "not permitted")
		}
		for _, s := range needed {
			if !key.Permits(s) {
				log.WarnContext(ctx, "a call that the key does not permit", "key", key.Name, "call", info.FullMethod)
				return nil, status.Errorf(codes.PermissionDenied, "the key %s does not have the scope %s", key.Name, s)
			}
		}
		ctx, err := operations.record(ctx, key, info.FullMethod, targetOf(req))
		if err != nil {
			return nil, err
		}
		response, err := next(ctx, req)
		if key.Permits(auth.ScopeAdmin) {
			log.InfoContext(ctx, "a call by an admin key", "key", key.Name, "call", info.FullMethod, "code", status.Code(err))
		}
		return response, err
	}
}

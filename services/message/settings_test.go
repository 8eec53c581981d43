package message

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestSettingsAreInTheUsersListAloneUntilAMessageEndsHiding(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	n.said(t, "one")
	head := func(user int64) *millracev1.ConversationHead {
		list, err := n.Conversations(t.Context(), &millracev1.ConversationsRequest{User: user})
		require.NoError(t, err)
		require.Len(t, list.GetConversations(), 1)
		return list.GetConversations()[0]
	}
	require.NoError(t, second(n.ChangeSettings(t.Context(), &millracev1.ChangeSettingsRequest{
		User: 2, Conversation: "u:1:2", MutedUntil: new(int64(9_999_999_999)), Pinned: new(true), Hidden: new(true),
	})))
	got := head(2)
	require.EqualValues(t, 9_999_999_999, got.GetMutedUntil())
	require.True(t, got.GetPinned())
	require.True(t, got.GetHidden())
	require.False(t, head(1).GetPinned())
	n.said(t, "two")
	require.False(t, head(2).GetHidden())
	require.True(t, head(2).GetPinned())

	for name, bad := range map[string]struct {
		request *millracev1.ChangeSettingsRequest
		want    codes.Code
	}{
		"nothing":       {&millracev1.ChangeSettingsRequest{User: 2, Conversation: "u:1:2"}, codes.InvalidArgument},
		"elsewhere":     {&millracev1.ChangeSettingsRequest{User: 3, Conversation: "u:1:2", Pinned: new(true)}, codes.PermissionDenied},
		"nowhere":       {&millracev1.ChangeSettingsRequest{User: 2, Conversation: "u:2:1", Pinned: new(true)}, codes.InvalidArgument},
		"before 1970":   {&millracev1.ChangeSettingsRequest{User: 2, Conversation: "u:1:2", MutedUntil: new(int64(-1))}, codes.InvalidArgument},
		"in no group":   {&millracev1.ChangeSettingsRequest{User: 2, Conversation: "g:77", Pinned: new(true)}, codes.NotFound},
		"until forever": {&millracev1.ChangeSettingsRequest{User: 2, Conversation: "u:1:2", MutedUntil: new(int64(1 << 53))}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) { requireCode(t, bad.want, second(n.ChangeSettings(t.Context(), bad.request))) })
	}
}

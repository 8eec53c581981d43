package message

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestStepOfMembershipThatIsRepeatedLateDoesNotUndoWhatCameBetween(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	group := n.group(t, 2).GetGroupId()
	remove := &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: group, User: 2, ClientMsgId: "remove"}
	leave := &millracev1.LeaveGroupRequest{Sender: by(2), GroupId: group, ClientMsgId: "leave"}
	add := func(id string) *millracev1.AddMemberRequest {
		return &millracev1.AddMemberRequest{Sender: by(1), GroupId: group, User: 2, ClientMsgId: id}
	}
	requireMembers := func(want ...int64) {
		t.Helper()
		r, err := n.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 1, GroupId: group})
		require.NoError(t, err)
		require.Equal(t, want, r.GetGroup().GetMembers())
	}
	require.NoError(t, second(n.RemoveMember(t.Context(), remove)))
	require.NoError(t, second(n.AddMember(t.Context(), add("first"))))
	require.NoError(t, second(n.RemoveMember(t.Context(), remove)))
	requireMembers(1, 2)
	require.NoError(t, second(n.LeaveGroup(t.Context(), leave)))
	require.NoError(t, second(n.AddMember(t.Context(), add("first"))))
	requireMembers(1)
	require.NoError(t, second(n.AddMember(t.Context(), add("second"))))
	require.NoError(t, second(n.LeaveGroup(t.Context(), leave)))
	requireMembers(1, 2)
	require.Len(t, n.logOf(t, events.Group(group)), 5)
}

func TestStepsToAndFroAreEventsOfTheirOwnAndOneStepByTwoIsOne(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	group := n.group(t, 2).GetGroupId()
	for range 3 {
		var both sync.WaitGroup
		both.Go(func() {
			_ = second(n.RemoveMember(t.Context(), &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: group, User: 2}))
		})
		both.Go(func() {
			_ = second(n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(2), GroupId: group}))
		})
		both.Wait()
		require.NoError(t, second(n.AddMember(t.Context(), &millracev1.AddMemberRequest{Sender: by(1), GroupId: group, User: 2})))
	}
	ids := map[string]bool{}
	for _, r := range n.logOf(t, events.Group(group)) {
		ids[r.EventID] = true
	}
	require.Len(t, ids, 1+2*3, "the creation, and each time one leaving and one joining")
}

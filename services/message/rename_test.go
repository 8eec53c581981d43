package message

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestGroupIsRenamedByItsOwnerAsOftenAsItLikes(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.group(t, 2).GetGroupId()
	rename := func(name, key string) (*millracev1.Group, error) {
		answer, err := n.RenameGroup(t.Context(), &millracev1.RenameGroupRequest{Sender: by(1), GroupId: id, Name: name, ClientMsgId: key})
		return answer.GetGroup(), err
	}
	for _, step := range []struct{ name, key, want string }{
		{"one", "a", "one"}, {"two", "", "two"}, {"one", "", "one"}, {"three", "b", "three"}, {"one", "a", "three"},
	} {
		g, err := rename(step.name, step.key)
		require.NoError(t, err)
		require.Equal(t, step.want, g.GetName())
		require.Equal(t, []int64{1, 2}, g.GetMembers())
	}
	for _, bad := range []struct{ name, key string }{
		{"", ""}, {strings.Repeat("x", 257), ""}, {"x", strings.Repeat("x", 65)},
	} {
		_, err := rename(bad.name, bad.key)
		requireCode(t, codes.InvalidArgument, err)
	}
}

func TestDissolvingAGroupTwiceIsOnce(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.group(t, 2).GetGroupId()
	dissolve := func() error {
		return second(n.DissolveGroup(t.Context(), &millracev1.DissolveGroupRequest{Sender: by(1), GroupId: id}))
	}
	require.NoError(t, dissolve())
	end := n.end(t)
	require.NoError(t, dissolve())
	require.Equal(t, end, n.end(t))
	requireCode(t, codes.NotFound, second(n.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 1, GroupId: id})))
}

// Who is told of a change asks for the group at once, and storing begins some time after publishing.
func TestAGroupIsAsItsLatestChangeMadeIt(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.group(t, 2).GetGroupId()
	for i := range 50 {
		name := fmt.Sprint("name ", i)
		n.publish(t, events.Event{
			Type: events.GroupRenamed, EventID: name, Conversation: events.Group(id), GroupID: id, By: 1, Name: name, Timestamp: 1,
		})
		r, err := n.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 2, GroupId: id})
		require.NoError(t, err)
		require.Equal(t, name, r.GetGroup().GetName())
	}
}

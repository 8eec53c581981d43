package message

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// The store may be behind the log, most of all when a backup of it was put back. A change that is decided by such a store would
// be answered without effect, and a member would be refused for good.
func TestGroupVerbGoesByWhatTheLogHasAlsoWhileStorageIsBehind(t *testing.T) {
	left, added := []events.Type{events.MemberLeft}, []events.Type{events.MemberJoined}
	for name, verb := range map[string]struct {
		stored []events.Type // what storage has of user 3, who is a member from the beginning
		behind []events.Type // what storage is behind with
		change func(n *node, group int64) error
		want   []int64
	}{
		"add who has left": {nil, left, func(n *node, group int64) error {
			return second(n.AddMember(t.Context(), &millracev1.AddMemberRequest{Sender: by(1), GroupId: group, User: 3}))
		}, []int64{1, 2, 3}},
		"join after leaving": {nil, left, func(n *node, group int64) error {
			return second(n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: group}))
		}, []int64{1, 2, 3}},
		"remove who was added again": {nil, append(left, added...), func(n *node, group int64) error {
			return second(n.RemoveMember(t.Context(), &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: group, User: 3}))
		}, []int64{1, 2}},
		"send by who was added again": {left, added, func(n *node, group int64) error {
			return second(n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{
				Sender: by(3), GroupId: group, Content: "hi", ClientMsgId: "m",
			}))
		}, []int64{1, 2, 3}},
		"history of who was added": {left, added, func(n *node, group int64) error {
			return second(n.History(t.Context(), &millracev1.HistoryRequest{User: 9, Conversation: events.Group(group + 1)}))
		}, []int64{1, 2, 3}},
		"look by who was added again": {left, added, func(n *node, group int64) error {
			return second(n.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 3, GroupId: group}))
		}, []int64{1, 2, 3}},
		"creation that is repeated": {left, added, func(n *node, group int64) error {
			r, err := n.CreateGroup(t.Context(), &millracev1.CreateGroupRequest{Sender: by(9), ClientMsgId: "c"})
			if err == nil && r.GetGroup().GetGroupId() != group+1 {
				return fmt.Errorf("group %d", r.GetGroup().GetGroupId())
			}
			return err
		}, []int64{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, memory.Config{Partitions: 1})
			group := int64(7)
			change := func(kind events.Type, id string) events.Event {
				return events.Event{
					Type: kind, EventID: id, Conversation: events.Group(group), GroupID: group, User: 3, By: 3, Timestamp: 1,
				}
			}
			created := change(events.GroupCreated, "created")
			created.User, created.By, created.Members, created.Join = 1, 1, []int64{1, 2, 3}, events.JoinOpen
			n.publish(t, created)
			for i, kind := range verb.stored {
				n.publish(t, change(kind, fmt.Sprint("stored ", i)))
			}
			n.keepAll(t)
			another := created
			another.EventID, another.ClientMsgID = "another", "c"
			another.GroupID, another.Conversation = group+1, events.Group(group+1)
			another.User, another.By, another.Members = 9, 9, []int64{9}
			n.publish(t, another)
			for i, kind := range verb.behind {
				n.publish(t, change(kind, fmt.Sprint(i)))
			}
			done := make(chan error, 1)
			go func() {
				err := verb.change(n, group)
				for status.Code(err) == codes.Unavailable { // as a client repeats it
					err = verb.change(n, group)
				}
				done <- err
			}()
			select {
			case err := <-done:
				require.FailNow(t, "answered before storage had caught up", "%v", err)
			case <-time.After(lookupWait + 50*time.Millisecond):
			}
			n.storing(t)
			require.NoError(t, <-done)
			members, err := n.db.Members(t.Context(), group)
			require.NoError(t, err)
			require.Equal(t, verb.want, members)
		})
	}
}

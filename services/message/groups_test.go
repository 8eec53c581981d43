package message

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestGroupIsCreatedWithItsMembersInOneEvent(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	r, err := n.CreateGroup(t.Context(), &millracev1.CreateGroupRequest{
		Sender: by(5), Name: "team", Members: []int64{9, 5, 1, 9}, ClientMsgId: "c",
	})
	require.NoError(t, err)
	g := r.GetGroup()
	require.Positive(t, g.GetGroupId())
	require.False(t, g.GetOpen(), "closed, unless it is created open")
	require.Equal(t, "team", g.GetName())
	require.Equal(t, int64(5), g.GetOwner())
	require.Equal(t, []int64{1, 5, 9}, g.GetMembers())
	require.Len(t, changesOn(t, n, events.TopicMessages), 1)
	require.Equal(t, changesOn(t, n, events.TopicMessages), changesOn(t, n, events.TopicGroups), "the copy is the same")

	again, err := n.CreateGroup(t.Context(), &millracev1.CreateGroupRequest{Sender: by(5), Name: "x", ClientMsgId: "c"})
	require.NoError(t, err)
	require.True(t, proto.Equal(g, again.GetGroup()), "a repeat finds the group")
	require.Len(t, changesOn(t, n, events.TopicMessages), 1)
}

func TestGroupIDsAreDrawn(t *testing.T) {
	ids := map[int64]bool{}
	for range 2 {
		n := newNode(t, memory.Config{})
		n.storing(t)
		r, err := n.CreateGroup(t.Context(), &millracev1.CreateGroupRequest{Sender: by(5), ClientMsgId: "c"})
		require.NoError(t, err)
		require.LessOrEqual(t, r.GetGroup().GetGroupId(), int64(events.MaxID))
		ids[r.GetGroup().GetGroupId()] = true
	}
	require.Len(t, ids, 2, "what the client chose does not decide the id")
}

func TestOneCreationMakesOneGroupOnManyNodesAtOnce(t *testing.T) {
	n, other := twoNodes(t, false)
	nodes := []*Service{n.service, other}
	ids := make([]int64, 16)
	var calls sync.WaitGroup
	for i := range ids {
		calls.Go(func() {
			r, err := nodes[i%2].CreateGroup(t.Context(), &millracev1.CreateGroupRequest{Sender: by(5), ClientMsgId: "c"})
			if err != nil {
				t.Error(err)
			}
			ids[i] = r.GetGroup().GetGroupId()
		})
	}
	calls.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	for _, e := range changesOn(t, n, events.TopicMessages) {
		require.Equal(t, ids[0], e.GroupID, "the log has no other group that could be pushed")
	}
}

func TestCreationThatBrokeOffIsTakenUpByAnotherNode(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	r := &millracev1.CreateGroupRequest{Sender: by(5), Name: "team", ClientMsgId: "c"}
	n.bus.instead = func(string, ...*message.Message) error { return errors.New("no leader") }
	_, err := n.CreateGroup(t.Context(), r)
	requireCode(t, codes.Unavailable, err)
	reserved, err := n.db.ReserveGroup(t.Context(), 5, "c", 1)
	require.NoError(t, err)
	require.Greater(t, reserved, int64(1))

	n.bus.instead = nil
	again, err := newService(t, n.bus, n.db).CreateGroup(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, reserved, again.GetGroup().GetGroupId())
}

func TestGroupVerbsChangeWhoBelongsToIt(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.openGroup(t, 2).GetGroupId()
	members := func() []int64 {
		r, err := n.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 1, GroupId: id})
		require.NoError(t, err)
		return r.GetGroup().GetMembers()
	}

	joined, err := n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: id})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2, 3}, joined.GetGroup().GetMembers())

	added, err := n.AddMember(t.Context(), &millracev1.AddMemberRequest{Sender: by(1), GroupId: id, User: 4})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2, 3, 4}, added.GetGroup().GetMembers())

	removed, err := n.RemoveMember(t.Context(), &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: id, User: 2})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 3, 4}, removed.GetGroup().GetMembers())

	_, err = n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(3), GroupId: id})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 4}, members())

	_, err = n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: id})
	require.NoError(t, err, "who left may join again")
	require.Equal(t, []int64{1, 3, 4}, members())

	before := len(changesOn(t, n, events.TopicMessages))
	_, err = n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: id})
	require.NoError(t, err)
	_, err = n.AddMember(t.Context(), &millracev1.AddMemberRequest{Sender: by(1), GroupId: id, User: 4})
	require.NoError(t, err)
	_, err = n.RemoveMember(t.Context(), &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: id, User: 2})
	require.NoError(t, err)
	_, err = n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(2), GroupId: id})
	require.NoError(t, err)
	require.Len(t, changesOn(t, n, events.TopicMessages), before, "a repeat changes nothing")

	_, err = n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(1), GroupId: id})
	require.NoError(t, err)
	_, err = n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(1), GroupId: id})
	require.NoError(t, err, "a repeat is safe")
	_, err = n.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 4, GroupId: id})
	requireCode(t, codes.NotFound, err)
	last := changesOn(t, n, events.TopicMessages)
	require.Equal(t, events.GroupDissolved, last[len(last)-1].Type)
	require.ElementsMatch(t, last, changesOn(t, n, events.TopicGroups))
}

func TestGroupVerbsAreRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.group(t, 2).GetGroupId()
	crowd := make([]int64, events.MaxGroupMembers)
	for i := range crowd {
		crowd[i] = int64(i + 1)
	}
	full := n.openGroup(t, crowd...).GetGroupId()
	ctx := t.Context()
	for name, c := range map[string]struct {
		call func() error
		want codes.Code
	}{
		"join as nobody": {func() error { return second(n.JoinGroup(ctx, &millracev1.JoinGroupRequest{GroupId: id})) }, codes.InvalidArgument},
		"join a full group": {func() error {
			return second(n.JoinGroup(ctx, &millracev1.JoinGroupRequest{Sender: by(50_000), GroupId: full}))
		}, codes.InvalidArgument},
		"add nobody": {func() error {
			return second(n.AddMember(ctx, &millracev1.AddMemberRequest{Sender: by(1), GroupId: id}))
		}, codes.InvalidArgument},
		"remove the owner": {func() error {
			return second(n.RemoveMember(ctx, &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: id, User: 1}))
		}, codes.InvalidArgument},
		"create as nobody": {func() error { return second(n.CreateGroup(ctx, &millracev1.CreateGroupRequest{Name: "x"})) }, codes.InvalidArgument},
		"create with nobody": {func() error {
			return second(n.CreateGroup(ctx, &millracev1.CreateGroupRequest{Sender: by(1), Members: []int64{0}}))
		}, codes.InvalidArgument},
		"create too large": {func() error {
			return second(n.CreateGroup(ctx, &millracev1.CreateGroupRequest{Sender: by(50_000), Members: crowd}))
		}, codes.InvalidArgument},
		"create with a long name": {func() error {
			return second(n.CreateGroup(ctx, &millracev1.CreateGroupRequest{Sender: by(1), Name: string(make([]byte, 257))}))
		}, codes.InvalidArgument},
		"create with a long id": {func() error {
			return second(n.CreateGroup(ctx, &millracev1.CreateGroupRequest{Sender: by(1), ClientMsgId: string(make([]byte, 65))}))
		}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) { requireCode(t, c.want, c.call()) })
	}
}

func TestGroupVerbIsUnavailableUntilTheChangeIsStoredAndThenRepeats(t *testing.T) {
	n := newNode(t, memory.Config{})
	r := &millracev1.CreateGroupRequest{Sender: by(1), Name: "g", Members: []int64{2}, ClientMsgId: "c"}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := n.service.CreateGroup(ctx, r)
	requireCode(t, codes.Unavailable, err)
	n.storing(t)
	again, err := n.CreateGroup(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2}, again.GetGroup().GetMembers())
}

func TestGroupVerbIsUnavailableWhenBrokerOrStoreAreDown(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.openGroup(t, 2).GetGroupId()
	n.bus.instead = func(string, ...*message.Message) error { return errors.New("no leader") }
	_, err := n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: id})
	requireCode(t, codes.Unavailable, err)
	n.bus.instead = nil
	n.store.down.Store(true)
	_, err = n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: id})
	requireCode(t, codes.Unavailable, err)
	_, err = n.CreateGroup(t.Context(), &millracev1.CreateGroupRequest{Sender: by(3)})
	requireCode(t, codes.Unavailable, err)
}

// Without the groups handler the call makes the copy itself.
func TestChangeThatNobodyCopiesIsCopiedByTheCallOrNot(t *testing.T) {
	var away atomic.Bool
	n := newNode(t, memory.Config{Fail: func(topic string, _ *message.Message) error {
		if topic == events.TopicGroups && away.Load() {
			return errors.New("no leader")
		}
		return nil
	}})
	n.uncopied.Store(true)
	n.storing(t)
	id := n.group(t, 2, 3).GetGroupId()
	remove := func(user int64) {
		t.Helper()
		require.NoError(t, second(n.RemoveMember(t.Context(), &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: id, User: user})))
	}
	remove(2)
	copies := changesOn(t, n, events.TopicGroups)
	require.Len(t, copies, 1)
	made := changesOn(t, n, events.TopicMessages)
	require.Equal(t, made[len(made)-1], copies[0])
	away.Store(true)
	remove(3)
	require.Len(t, changesOn(t, n, events.TopicGroups), 1)
}

func TestSameStepTakenTwiceAtATimeIsOneEvent(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.openGroup(t).GetGroupId()
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			_, err := n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: id})
			require.NoError(t, err)
		})
	}
	calls.Wait()
	ids := map[string]bool{}
	for _, e := range changesOn(t, n, events.TopicMessages) {
		if e.Type == events.MemberJoined {
			ids[e.EventID] = true
		}
	}
	require.Len(t, ids, 1)

	_, err := n.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(3), GroupId: id})
	require.NoError(t, err)
	_, err = n.JoinGroup(t.Context(), &millracev1.JoinGroupRequest{Sender: by(3), GroupId: id})
	require.NoError(t, err)
	joins := slices.DeleteFunc(changesOn(t, n, events.TopicMessages), func(e events.Event) bool {
		return e.Type != events.MemberJoined || ids[e.EventID]
	})
	require.Len(t, joins, 1, "joining later is another event")
}

func TestNoNodeTakesAMessageOfAFormerMember(t *testing.T) {
	for name, uncopied := range map[string]bool{"": false, "while the groups handler is down": true} {
		t.Run(name, func(t *testing.T) { testFormerMember(t, uncopied) })
	}
}

func testFormerMember(t *testing.T, uncopied bool) {
	t.Helper()
	n, other := twoNodes(t, uncopied)
	id := n.group(t, 2).GetGroupId()
	send := func() error {
		_, err := other.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(2), GroupId: id, Content: "x"})
		return err
	}
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() { // keeps the member in the other node's roster
		for {
			select {
			case <-stop:
				return
			default:
				_ = other.members.check(t.Context(), 2, id)
				runtime.Gosched()
			}
		}
	})
	require.NoError(t, send())
	_, err := n.RemoveMember(t.Context(), &millracev1.RemoveMemberRequest{Sender: by(1), GroupId: id, User: 2})
	require.NoError(t, err)
	requireCode(t, codes.NotFound, send())
	close(stop)
	sending.Wait()

	_, err = n.AddMember(t.Context(), &millracev1.AddMemberRequest{Sender: by(1), GroupId: id, User: 2})
	require.NoError(t, err)
	require.NoError(t, send(), "a new member may send on every node as soon as the verb is answered")
}

func changesOn(t testing.TB, n *node, topic string) []events.Event {
	t.Helper()
	log := n.bus.Bus.Log(topic)
	end, err := log.End(t.Context())
	require.NoError(t, err)
	var ranges []events.Range
	for p := range log.Partitions() {
		ranges = append(ranges, events.Range{Partition: p, Through: end[p]})
	}
	var all []events.Event
	require.NoError(t, log.Read(t.Context(), ranges, func(raw pubsub.RawRecord) error {
		var e events.Event
		if err := json.Unmarshal(raw.Value, &e); err != nil {
			return err
		}
		if e.GroupID != 0 {
			all = append(all, e)
		}
		return nil
	}))
	return all
}

func second[T any](_ T, err error) error { return err }

package message

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func (n *node) block(t testing.TB, from, user int64) {
	t.Helper()
	require.NoError(t, second(n.Block(t.Context(), &millracev1.BlockRequest{Sender: by(from), User: user})))
}

func (n *node) unblock(t testing.TB, from, user int64) {
	t.Helper()
	require.NoError(t, second(n.Unblock(t.Context(), &millracev1.UnblockRequest{Sender: by(from), User: user})))
}

func (n *node) blocked(t testing.TB, user int64) []int64 {
	t.Helper()
	r, err := n.Blocked(t.Context(), &millracev1.BlockedRequest{User: user})
	require.NoError(t, err)
	return r.GetUsers()
}

// says sends a direct message.
func (n *node) says(t testing.TB, from, to int64) error {
	t.Helper()
	return second(n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(from), To: to, Content: "hello"}))
}

// Two nodes share the log and the store, as they do in production.
func TestNoNodeAcceptsWhatABlockedUserWritesOnceTheVerbHasReturned(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	n := newNodeOver(t, bus)
	other := newNodeWith(t, bus, n.db)
	n.storing(t)
	n.storingUsers(t)
	both := []*node{n, other}
	for _, node := range both {
		require.NoError(t, node.says(t, 2, 1))
	}
	for range 2 { // repeated, and again after it was ended
		n.block(t, 1, 2)
		other.block(t, 1, 2)
		require.Equal(t, []int64{2}, other.blocked(t, 1))
		for _, node := range both {
			requireCode(t, codes.PermissionDenied, node.says(t, 2, 1))
			require.NoError(t, node.says(t, 1, 2), "who blocks may write")
			require.NoError(t, node.says(t, 2, 2))
			require.NoError(t, node.says(t, 3, 1))
		}
		other.unblock(t, 1, 2)
		n.unblock(t, 1, 2)
		require.Empty(t, n.blocked(t, 1))
		for _, node := range both {
			require.NoError(t, node.says(t, 2, 1))
		}
	}
}

func TestBlockedUserMayRecallButNotEditAndGroupsAreUnaffected(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	n.storingUsers(t)
	sent, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(2), To: 1, Content: "hello"})
	require.NoError(t, err)
	group := n.group(t, 2)
	n.block(t, 1, 2)
	edit := &millracev1.EditMessageRequest{
		User: 2, Conversation: sent.GetConversation(), MessageId: sent.GetMessageId(), Content: "hello!",
	}
	requireCode(t, codes.PermissionDenied, second(n.EditMessage(t.Context(), edit)))
	require.NoError(t, second(n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{
		Sender: by(2), GroupId: group.GetGroupId(), Content: "hello all",
	})))
	require.NoError(t, second(n.RecallMessage(t.Context(), &millracev1.RecallMessageRequest{
		User: 2, Conversation: sent.GetConversation(), MessageId: sent.GetMessageId(),
	})))
}

// Batches to different users that share a partition are published with one call, and a block concerns only its own.
func TestOfBatchesThatArePublishedTogetherOnlyTheBlockedAreRefused(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.storingUsers(t)
	n.block(t, 1, 2)
	request := &millracev1.SendBatchesRequest{}
	for i, from := range []int64{2, 3, 4} {
		request.Batches = append(request.Batches, &millracev1.SendBatch{Id: uint64(i), Messages: []*millracev1.SendWSMessageRequest{
			{Sender: by(from), To: 1, Content: "one"}, {Sender: by(from), To: 1, Content: "two"},
		}})
	}
	stream := openBatches(t, n)
	require.NoError(t, stream.Send(request))
	for answered := 0; answered < len(request.GetBatches()); {
		response, err := stream.Recv()
		require.NoError(t, err)
		for _, result := range response.GetResults() {
			answered++
			for _, r := range result.GetResults() {
				want := codes.OK
				if result.GetId() == 0 {
					want = codes.PermissionDenied
				}
				require.Equal(t, want, codes.Code(r.GetCode()))
			}
		}
	}
	require.NoError(t, stream.CloseSend())
}

func TestBlockThatCannotHoldIsRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	for name, bad := range map[string]struct{ from, user int64 }{
		"itself": {1, 1}, "nobody": {1, 0}, "below 1": {1, -1}, "above 2^53-1": {1, events.MaxID + 1}, "by nobody": {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			requireCode(t, codes.InvalidArgument, second(n.Block(t.Context(), &millracev1.BlockRequest{Sender: by(bad.from), User: bad.user})))
			requireCode(t, codes.InvalidArgument, second(n.Unblock(t.Context(), &millracev1.UnblockRequest{Sender: by(bad.from), User: bad.user})))
		})
	}
	requireCode(t, codes.InvalidArgument, second(n.Blocked(t.Context(), &millracev1.BlockedRequest{})))
	requireCode(t, codes.OutOfRange, second(n.BlockedBy(t.Context(), &millracev1.BlockedByRequest{By: make([]int64, maxSeen+1)})))
}

func TestUserBlocksAtMostAThousand(t *testing.T) {
	n := newNode(t, memory.Config{})
	var records []events.Record
	for i := range int64(maxBlocked) {
		e := events.Event{Type: events.UserBlocked, EventID: fmt.Sprint(i), User: i + 2, By: 1}
		records = append(records, events.Record{Event: e, Position: events.Position{Seq: i + 1}})
	}
	require.NoError(t, n.db.SaveUsers(t.Context(), records))
	require.Len(t, n.blocked(t, 1), maxBlocked)
	err := second(n.Block(t.Context(), &millracev1.BlockRequest{Sender: by(1), User: maxBlocked + 2}))
	requireCode(t, codes.InvalidArgument, err)
}

func TestBlockIsUnavailableWhileItCannotBeStored(t *testing.T) {
	n := newNode(t, memory.Config{})
	block := &millracev1.BlockRequest{Sender: by(1), User: 2}
	requireCode(t, codes.Unavailable, second(n.Block(t.Context(), block))) // nobody stores
	n.store.down.Store(true)
	requireCode(t, codes.Unavailable, second(n.Block(t.Context(), block)))
	requireCode(t, codes.Unavailable, second(n.Blocked(t.Context(), &millracev1.BlockedRequest{User: 1})))
	n.store.down.Store(false)
	n.storingUsers(t)
	n.block(t, 1, 2) // repeated
	requireCode(t, codes.PermissionDenied, n.says(t, 2, 1))

	n.store.down.Store(true)
	requireCode(t, codes.PermissionDenied, n.says(t, 2, 1))
	require.NoError(t, n.says(t, 3, 1))
	states, err := n.BlockedBy(t.Context(), &millracev1.BlockedByRequest{User: 2, By: []int64{1, 3}})
	require.NoError(t, err)
	require.Len(t, states.GetStates(), 1)
	require.True(t, states.GetStates()[0].GetBlocked())
}

func TestBlockedByNamesWhoHasEverBlockedTheUser(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storingUsers(t)
	n.block(t, 1, 2)
	n.block(t, 3, 2)
	n.unblock(t, 3, 2)
	n.block(t, 2, 4)
	states, err := n.BlockedBy(t.Context(), &millracev1.BlockedByRequest{User: 2, By: []int64{1, 2, 3, 4}})
	require.NoError(t, err)
	got := map[int64]bool{}
	for _, s := range states.GetStates() {
		require.Positive(t, s.GetSeq())
		got[s.GetBy()] = s.GetBlocked()
	}
	require.Equal(t, map[int64]bool{1: true, 3: false}, got)
}

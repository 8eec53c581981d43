package message

import (
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func edit(id, content string) *millracev1.Change {
	return &millracev1.Change{Kind: &millracev1.Change_Edit{Edit: editOf(id, content)}}
}

func recall(id string) *millracev1.Change {
	return &millracev1.Change{Kind: &millracev1.Change_Recall{Recall: recallOf(id)}}
}

func read(seq int64) *millracev1.Change {
	return &millracev1.Change{Kind: &millracev1.Change_Read{Read: readTo(1, seq)}}
}

func send(content string) *millracev1.Change {
	return &millracev1.Change{Kind: &millracev1.Change_Send{Send: direct(content)[0]}}
}

func add(group, user int64) *millracev1.Change {
	return &millracev1.Change{Kind: &millracev1.Change_AddMember{AddMember: &millracev1.AddMemberRequest{
		Sender: by(1), GroupId: group, User: user,
	}}}
}

func remove(group, user int64) *millracev1.Change {
	return &millracev1.Change{Kind: &millracev1.Change_RemoveMember{RemoveMember: &millracev1.RemoveMemberRequest{
		Sender: by(1), GroupId: group, User: user,
	}}}
}

// make makes the changes as one batch and returns the results.
func (n *node) make(t *testing.T, changes ...*millracev1.Change) []*millracev1.SendResult {
	t.Helper()
	stream := openBatches(t, n)
	require.NoError(t, stream.Send(&millracev1.SendBatchesRequest{Batches: []*millracev1.SendBatch{{Id: 1, Changes: changes}}}))
	response, err := stream.Recv()
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
	require.Len(t, response.GetResults(), 1)
	require.Len(t, response.GetResults()[0].GetResults(), len(changes))
	return response.GetResults()[0].GetResults()
}

func TestChangesOfABatchAreMadeInOrder(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	id := n.said(t, "0")[0]
	var edits []*millracev1.Change
	for _, content := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"} {
		edits = append(edits, edit(id, content))
	}
	require.Equal(t, slices.Repeat([]codes.Code{codes.OK}, 12), codesOf(n.make(t, edits...)))
	require.Equal(t, "12", n.newest(t).GetContent())
	require.Equal(t, []codes.Code{codes.OK, codes.NotFound, codes.OK, codes.OK},
		codesOf(n.make(t, recall(id), edit(id, "13"), send("later"), read(1))))
	require.Equal(t, "later", n.newest(t).GetContent())

	group := n.group(t, 2).GetGroupId()
	for range 8 {
		require.Equal(t, []codes.Code{codes.OK, codes.OK}, codesOf(n.make(t, remove(group, 2), add(group, 2))))
	}
	g, err := n.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 2, GroupId: group})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2}, g.GetGroup().GetMembers())
}

func TestNothingIsMadeBehindAChangeThatIsUnavailable(t *testing.T) {
	n := newNode(t, memory.Config{})
	id := n.said(t, "a")[0]
	n.bus.instead = func(_ string, msgs ...*message.Message) error {
		if msgs[0].Metadata.Get("type") == string(events.MessageEdited) {
			return errDown
		}
		return n.bus.Bus.Publisher().Publish(events.TopicMessages, msgs...)
	}
	require.Equal(t, []codes.Code{codes.OK, codes.InvalidArgument, codes.Unavailable, codes.Unavailable, codes.Unavailable},
		codesOf(n.make(t, send("b"), edit(id, ""), edit(id, "x"), send("c"), recall(id))))
	require.Len(t, n.logOf(t, "u:1:2"), 2)
}

func TestAReadThatIsUnavailableHoldsUpNothing(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.store.down.Store(true)
	require.Equal(t, []codes.Code{codes.OK, codes.Unavailable, codes.OK}, codesOf(n.make(t, send("a"), read(1), send("b"))))
	require.Equal(t, []string{"a", "b"}, contents(t, n))
}

func TestABatchIsOfOneUserAndOneConversation(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	group := n.group(t, 2).GetGroupId()
	another := edit("m", "x")
	another.GetEdit().User = 2
	require.Equal(t, []codes.Code{codes.OK, codes.InvalidArgument, codes.InvalidArgument, codes.InvalidArgument, codes.OK},
		codesOf(n.make(t, send("a"), add(group, 3), another, &millracev1.Change{}, send("b"))))
}

// However many changes wait, they fill neither the stream nor the node, and sends go on.
func TestChangesThatWaitHoldUpNoSends(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	group := n.group(t).GetGroupId()
	release := make(chan struct{})
	n.bus.instead = func(topic string, msgs ...*message.Message) error {
		if msgs[0].Metadata.Get(pubsub.KeyHeader) == events.Group(group) {
			<-release
		}
		return n.bus.Bus.Publisher().Publish(topic, msgs...)
	}
	stream := openBatches(t, n)
	const waiting = 2 * maxUnanswered
	for i := range uint64(waiting) {
		require.NoError(t, stream.Send(&millracev1.SendBatchesRequest{Batches: []*millracev1.SendBatch{
			{Id: i + 1, Changes: []*millracev1.Change{add(group, int64(i)+2)}},
		}}))
	}
	for _, got := range collect(t, stream, waiting-maxWaiting) {
		require.Equal(t, []codes.Code{codes.Unavailable}, got)
	}
	sendBatch(t, stream, 0, direct("a"))
	require.Equal(t, map[uint64][]codes.Code{0: {codes.OK}}, collect(t, stream, 1))
	close(release)
	require.Len(t, collect(t, stream, maxWaiting), maxWaiting)
	require.NoError(t, stream.CloseSend())
}

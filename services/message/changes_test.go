package message

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestOwnMessageIsEditedAndRecalledAlsoRightAfterItWasSent(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	sent, err := n.SendWSMessage(t.Context(), direct("first")[0])
	require.NoError(t, err)
	id := sent.GetMessageId()

	stored := func() *millracev1.StoredMessage {
		page, err := n.History(t.Context(), &millracev1.HistoryRequest{User: 2, Conversation: "u:1:2"})
		require.NoError(t, err)
		require.Len(t, page.GetMessages(), 1)
		return page.GetMessages()[0]
	}
	edit := &millracev1.EditMessageRequest{User: 1, Conversation: "u:1:2", MessageId: id, Content: "second"}
	require.NoError(t, second(n.EditMessage(t.Context(), edit)))
	eventually(t, func() bool { return stored().GetContent() == "second" })
	require.NotZero(t, stored().GetEditedAt())

	recall := &millracev1.RecallMessageRequest{User: 1, Conversation: "u:1:2", MessageId: id}
	require.NoError(t, second(n.RecallMessage(t.Context(), recall)))
	eventually(t, func() bool { return stored().GetRecalled() })
	require.Empty(t, stored().GetContent())
	require.Equal(t, id, stored().GetMessageId())

	end := n.end(t)
	require.NoError(t, second(n.RecallMessage(t.Context(), recall)), "a repeat is safe")
	requireCode(t, codes.NotFound, second(n.EditMessage(t.Context(), edit)))
	require.Equal(t, end, n.end(t))
}

func TestChangesAreRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	sent, err := n.SendWSMessage(t.Context(), direct("a")[0])
	require.NoError(t, err)
	group := n.group(t).GetGroupId()
	inGroup, err := n.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(1), GroupId: group, Content: "x"})
	require.NoError(t, err)
	ctx, c, id := t.Context(), "u:1:2", sent.GetMessageId()
	edit := func(user int64, conversation, id, content string) error {
		return second(n.EditMessage(ctx, &millracev1.EditMessageRequest{
			User: user, Conversation: conversation, MessageId: id, Content: content,
		}))
	}
	recall := func(user int64, conversation, id string) error {
		return second(n.RecallMessage(ctx, &millracev1.RecallMessageRequest{User: user, Conversation: conversation, MessageId: id}))
	}
	read := func(user int64, conversation string, seq int64) error {
		return second(n.MarkRead(ctx, &millracev1.MarkReadRequest{User: user, Conversation: conversation, Seq: seq}))
	}
	g := inGroup.GetConversation()
	for name, test := range map[string]struct {
		err  error
		want codes.Code
	}{
		"edit of another's":       {edit(2, c, id, "x"), codes.PermissionDenied},
		"edit elsewhere":          {edit(3, c, id, "x"), codes.PermissionDenied},
		"edit in a foreign group": {edit(2, g, inGroup.GetMessageId(), "x"), codes.NotFound},
		"edit of nothing":         {edit(1, c, "nothing", "x"), codes.NotFound},
		"edit to nothing":         {edit(1, c, id, ""), codes.InvalidArgument},
		"edit to too much":        {edit(1, c, id, strings.Repeat("x", 40<<10)), codes.OutOfRange},
		"edit without place":      {edit(1, "", id, "x"), codes.InvalidArgument},
		"recall of another's":     {recall(2, c, id), codes.PermissionDenied},
		"recall of nothing":       {recall(1, c, "nothing"), codes.NotFound},
		"read elsewhere":          {read(3, c, 1), codes.PermissionDenied},
		"read a foreign group":    {read(2, g, 1), codes.NotFound},
		"read no group":           {read(2, "g:77", 1), codes.NotFound},
		"read from zero":          {read(1, c, 0), codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) { requireCode(t, test.want, test.err) })
	}

	n.bus.instead = func(string, ...*message.Message) error { return errors.New("no leader") }
	eventually(t, func() bool { _, err := n.db.Message(ctx, c, id); return err == nil })
	requireCode(t, codes.Unavailable, edit(1, c, id, "x"))
	requireCode(t, codes.Unavailable, recall(1, c, id))
	requireCode(t, codes.Unavailable, read(1, c, 1))
}

func TestChangeOfAMessageThatIsNotStoredIsUnavailable(t *testing.T) {
	n := newNode(t, memory.Config{})
	sent, err := n.SendWSMessage(t.Context(), direct("a")[0])
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = n.service.RecallMessage(ctx, &millracev1.RecallMessageRequest{
		User: 1, Conversation: "u:1:2", MessageId: sent.GetMessageId(),
	})
	requireCode(t, codes.Unavailable, err)
}

package message

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestReadersAreToldAtOnceToWhomTheConversationBelongs(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	n.said(t, "one")
	seq := n.newest(t).GetSeq()
	ask := func(user, seq int64, conversation string) ([]*millracev1.Reader, error) {
		answer, err := n.Readers(t.Context(), &millracev1.ReadersRequest{User: user, Conversation: conversation, Seq: seq})
		return answer.GetReaders(), err
	}
	readers, err := ask(1, seq, "u:1:2")
	require.NoError(t, err)
	require.Empty(t, readers)
	require.NoError(t, second(n.MarkRead(t.Context(), &millracev1.MarkReadRequest{User: 2, Conversation: "u:1:2", Seq: seq})))
	readers, err = ask(1, seq, "u:1:2")
	require.NoError(t, err)
	require.Len(t, readers, 1)
	require.EqualValues(t, 2, readers[0].GetUser())
	require.Equal(t, seq, readers[0].GetSeq())

	for _, bad := range []struct {
		user, seq    int64
		conversation string
		want         codes.Code
	}{
		{3, seq, "u:1:2", codes.PermissionDenied},
		{1, 0, "u:1:2", codes.InvalidArgument},
		{1, seq, "u:2:1", codes.InvalidArgument},
		{1, seq, "g:77", codes.NotFound},
	} {
		_, err := ask(bad.user, bad.seq, bad.conversation)
		requireCode(t, bad.want, err)
	}
}

package message

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// What a client without a cursor finds neither in its history nor among its live pushes is incomplete, and can be had from
// the position up to which storage has come.
func TestSyncWithoutCursorIsIncompleteWhileStorageIsBehind(t *testing.T) {
	t.Parallel()
	n := newNode(t, memory.Config{})
	p := events.Partition("u:1:2", 4)
	all := n.publish(t, said(2, 1, "kept"), said(2, 1, "a"), said(1, 2, "b"))
	n.keep(t, p, all[0].Seq)
	s := n.sync(t, &millracev1.SyncRequest{User: 1})
	require.True(t, s.GetRecovered())
	require.Equal(t, []int32{p}, s.GetIncomplete())
	require.Equal(t, all[0].Seq, s.GetCursor()[p])
	require.Equal(t, n.end(t), s.GetEnd())
	require.Zero(t, s.count())

	owed := n.sync(t, &millracev1.SyncRequest{
		User: 1, Resume: true, Cursor: map[int32]int64{p: all[0].Seq}, Through: map[int32]int64{p: s.GetEnd()[p]},
	})
	require.Empty(t, owed.GetIncomplete())
	require.Equal(t, map[int32][]int64{p: seqs(all[1:])}, owed.got)

	s = n.sync(t, &millracev1.SyncRequest{User: 9})
	require.Empty(t, s.GetIncomplete(), "nothing of it is this user's")
	require.Equal(t, n.end(t), s.GetCursor())

	n.keepAll(t)
	s = n.sync(t, &millracev1.SyncRequest{User: 1})
	require.Empty(t, s.GetIncomplete())
	require.Equal(t, n.end(t), s.GetCursor())
}

func TestSyncWithoutCursorWaitsForStorageThatIsJustBehind(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.storing(t)
	for i := range 20 {
		n.publish(t, said(2, 1, fmt.Sprint(i)))
		s := n.sync(t, &millracev1.SyncRequest{User: 1})
		require.Empty(t, s.GetIncomplete())
		require.Equal(t, s.GetEnd(), s.GetCursor())
	}
}

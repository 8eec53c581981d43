package message

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestLastSeenIsWhatTheStoreHas(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 4})
	require.NoError(t, n.db.SaveUsers(t.Context(), []events.Record{{
		Event:    events.Event{Type: events.UserOffline, User: 1, Timestamp: 1642678800},
		Position: events.Position{Partition: 3, Seq: 5},
	}}))
	seen, err := n.LastSeen(t.Context(), &millracev1.LastSeenRequest{Users: []int64{1, 2}})
	require.NoError(t, err)
	require.Equal(t, map[int64]int64{1: 1642678800}, seen.GetLastSeen())
	_, err = n.LastSeen(t.Context(), &millracev1.LastSeenRequest{Users: make([]int64, maxSeen+1)})
	requireCode(t, codes.OutOfRange, err)
}

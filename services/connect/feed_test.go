package connect

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/events"
	millracev1 "millrace/proto/millrace/v1"
	"millrace/services/connect/cluster"
)

// The user left a group in what the hub has skipped. What the hub gave the session for that group until the session asked is
// not the user's, also when nobody can say then which groups the user has.
func TestWhatCameForAStayThatEndedInASkipIsDropped(t *testing.T) {
	for name, end := range map[string]*millracev1.SyncEnd{
		"groups known":   {MembershipsKnown: true},
		"groups unknown": {},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "join")
			b.span(b.stream, &millracev1.Span{Through: 1, Deliveries: b.log.deliveries, Interest: 1})
			b.jump(b.partition(0), 9)
			said := &millracev1.Delivery{Seq: 10, Channels: []string{"g:7"}, Push: []byte("not the user's")}
			b.span(nil, &millracev1.Span{After: 9, Through: 10, Deliveries: []*millracev1.Delivery{said}})
			require.Len(t, b.sub.buffer, 1)
			answer := &cluster.Synced{Start: &millracev1.SyncStart{Recovered: true, End: map[int32]int64{0: 9}}, End: end}
			require.Equal(t, end.GetMembershipsKnown(), b.reconcile(b.sub, answer))
			require.Empty(t, b.sub.groups)
			require.Empty(t, b.sub.buffer)
		})
	}
}

// What came for a stay that began after the end of the response stays, as that stay does.
func TestWhatCameForAStayThatBeganAfterTheResponseStays(t *testing.T) {
	b := newBench(t, "join")
	b.sub.buffering = true
	b.span(b.stream, &millracev1.Span{Through: 1, Deliveries: b.log.deliveries, Interest: 1})
	said := &millracev1.Delivery{Seq: 2, Channels: []string{"g:7"}, Push: []byte("said")}
	b.span(nil, &millracev1.Span{After: 1, Through: 2, Deliveries: []*millracev1.Delivery{said}})
	answer := &cluster.Synced{
		Start: &millracev1.SyncStart{Recovered: true, End: map[int32]int64{0: 0}}, End: &millracev1.SyncEnd{MembershipsKnown: true},
	}
	require.False(t, b.reconcile(b.sub, answer))
	require.Contains(t, b.sub.groups, int64(7))
	require.Equal(t, events.Position{Seq: 2}, b.sub.buffer[len(b.sub.buffer)-1].Position)
}

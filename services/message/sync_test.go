package message

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// synced is the response of a Sync.
type synced struct {
	*millracev1.SyncStart
	got    map[int32][]int64 // by partition, the positions of the deliveries in their order
	groups map[int64]int64
	known  bool
	texts  []string // of what was delivered
	rest   map[int32]int64

	revokedBefore int64
}

func (n *node) sync(t testing.TB, r *millracev1.SyncRequest) synced {
	t.Helper()
	stream, err := n.Sync(t.Context(), r)
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	s := synced{SyncStart: first.GetStart(), got: map[int32][]int64{}, groups: map[int64]int64{}}
	require.NotNil(t, s.SyncStart, "start comes first")
	reached := map[int32]int64{}
	for {
		response, err := stream.Recv()
		require.NoError(t, err)
		if end := response.GetEnd(); end != nil {
			s.known = end.GetMembershipsKnown()
			s.rest, s.revokedBefore = end.GetRest(), end.GetTokensRevokedBefore()
			for _, m := range end.GetMemberships() {
				s.groups[m.GetGroupId()] = m.GetJoinedSeq()
			}
			break
		}
		require.LessOrEqual(t, proto.Size(response), 2*maxFrameBytes)
		for _, span := range response.GetDeliveries().GetSpans() {
			p := span.GetPartition()
			if _, begun := reached[p]; !begun {
				reached[p] = r.GetCursor()[p]
			}
			require.Equal(t, reached[p], span.GetAfter(), "spans of a partition meet")
			reached[p] = span.GetThrough()
			for _, d := range span.GetDeliveries() {
				require.True(t, span.GetAfter() < d.GetSeq() && d.GetSeq() <= span.GetThrough())
				s.got[p] = append(s.got[p], d.GetSeq())
				s.texts = append(s.texts, string(d.GetPush()))
			}
		}
	}
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	for p, through := range reached {
		want := s.GetEnd()[p]
		if at, more := s.rest[p]; more {
			want = at
		}
		require.Equal(t, want, through, "the last span reaches the end, or where the next page begins")
	}
	return s
}

// resume syncs a user from a cursor.
func (n *node) resume(t testing.TB, user int64, cursor map[int32]int64) synced {
	t.Helper()
	return n.sync(t, &millracev1.SyncRequest{User: user, Resume: true, Cursor: cursor})
}

// count returns how many deliveries there are.
func (s synced) count() int {
	total := 0
	for _, seqs := range s.got {
		total += len(seqs)
	}
	return total
}

func seqs(positions []events.Position) []int64 {
	var all []int64
	for _, p := range positions {
		all = append(all, p.Seq)
	}
	return all
}

func TestSyncWithoutCursorStartsAtTheEnd(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t, said(1, 2, "a"), change(events.GroupCreated, 7, 2, 0, 2, 3))
	n.keepAll(t)
	joined := n.publish(t, change(events.MemberJoined, 7, 1, 0), said(1, 2, "b"))[0]
	s := n.sync(t, &millracev1.SyncRequest{User: 1})
	require.Equal(t, map[int64]int64{7: joined.Seq}, s.groups, "the log tells of them")
	n.keepAll(t)
	s = n.sync(t, &millracev1.SyncRequest{User: 1})
	require.True(t, s.GetRecovered())
	require.Equal(t, n.end(t), s.GetCursor())
	require.Equal(t, n.end(t), s.GetEnd())
	require.Empty(t, s.GetIncomplete())
	require.Zero(t, s.count())
	require.Equal(t, map[int64]int64{7: joined.Seq}, s.groups)
	require.True(t, s.known)

	s = n.sync(t, &millracev1.SyncRequest{User: 1, Resume: true})
	require.Equal(t, n.end(t), s.GetCursor(), "an empty cursor has nothing anywhere")
	require.Zero(t, s.count())
}

func TestSyncGivesWhatWasMissedWhereverItStands(t *testing.T) {
	const c = "u:1:2"
	for name, stored := range map[string]int{"nothing stored": 0, "half": 2, "all": 4} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, memory.Config{})
			n.publish(t, said(2, 1, "had"))
			n.keepAll(t)
			cursor := n.end(t)
			missed := n.publish(t, said(2, 1, "a"), said(1, 2, "b"), said(2, 1, "c"), said(2, 1, "d"))
			n.publish(t, said(2, 3, "not ours"))
			if stored > 0 {
				n.keep(t, missed[0].Partition, missed[stored-1].Seq)
			}
			s := n.resume(t, 1, cursor)
			require.True(t, s.GetRecovered())
			require.Empty(t, s.GetIncomplete())
			require.Equal(t, cursor, s.GetCursor())
			require.Equal(t, n.end(t), s.GetEnd())
			require.Equal(t, map[int32][]int64{events.Partition(c, 4): seqs(missed)}, s.got)
		})
	}
}

func TestSyncKeepsToTheStaysOfAGroup(t *testing.T) {
	for stored := range 9 {
		t.Run(fmt.Sprint(stored, " stored"), func(t *testing.T) {
			n := newNode(t, memory.Config{Partitions: 1})
			n.publish(t, change(events.GroupCreated, 7, 1, 0, 1))
			n.keepAll(t)
			cursor := n.end(t)
			all := n.publish(t,
				saidIn(7, 1, "before"),
				change(events.MemberJoined, 7, 2, 0), // 1: the user who joins sees it
				saidIn(7, 1, "seen"),                 // 2
				change(events.MemberJoined, 7, 3, 0), // 3
				change(events.MemberLeft, 7, 2, 0),   // 4: the user who leaves sees it
				saidIn(7, 1, "away"),
				change(events.MemberJoined, 7, 2, 1), // 6
				saidIn(7, 1, "seen again"),           // 7
			)
			if stored > 0 {
				n.keep(t, 0, all[stored-1].Seq)
			}
			s := n.resume(t, 2, cursor)
			want := []int64{all[1].Seq, all[2].Seq, all[3].Seq, all[4].Seq, all[6].Seq, all[7].Seq}
			require.Equal(t, want, s.got[0])
			require.Equal(t, map[int64]int64{7: all[6].Seq}, s.groups)
			require.True(t, s.known)

			gone := n.publish(t, change(events.GroupDissolved, 7, 1, 0), saidIn(7, 1, "nobody hears"))
			s = n.resume(t, 2, cursor)
			require.Equal(t, append(want, gone[0].Seq), s.got[0])
			require.Empty(t, s.groups)
		})
	}
}

func TestSyncDoesNotRecoverWithACursorOfAnotherLog(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t, said(1, 2, "a"))
	n.keepAll(t)
	end := n.end(t)
	p := events.Partition("u:1:2", 4)
	for name, cursor := range map[string]map[int32]int64{
		"beyond the end":        {p: end[p] + 1},
		"negative":              {p: -1},
		"a partition too many":  {4: 0},
		"a negative partition":  {-1: 0},
		"one of several is bad": {p: 0, 4: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := n.resume(t, 1, cursor)
			require.False(t, s.GetRecovered())
			require.Equal(t, end, s.GetCursor())
			require.Zero(t, s.count())
			require.True(t, s.known)
		})
	}
}

func TestSyncGivesUpWhenTooMuchWasMissed(t *testing.T) {
	n := newNode(t, memory.Config{})
	group := change(events.GroupCreated, 7, 1, 0, 1)
	for i := range maxMissed {
		n.publish(t, said(2, 1, fmt.Sprint(i)))
	}
	p := events.Partition("u:1:2", 4)
	for _, stored := range []bool{false, true} {
		if stored {
			n.keepAll(t)
		}
		s := n.resume(t, 1, map[int32]int64{p: 0})
		require.True(t, s.GetRecovered())
		require.Equal(t, maxMissed, s.count())
	}
	joined := n.publish(t, said(2, 1, "one more"), group)[1]
	n.keepAll(t)
	s := n.resume(t, 1, map[int32]int64{p: 0})
	require.False(t, s.GetRecovered())
	require.Zero(t, s.count())
	require.Equal(t, n.end(t), s.GetCursor())
	require.Empty(t, s.GetIncomplete())
	require.Equal(t, map[int64]int64{7: joined.Seq}, s.groups, "who missed too much still learns its groups")
	require.True(t, s.known)
}

// A user who has to reload by history is told so only when history has everything.
func TestSyncIsIncompleteWhileTooMuchIsMissedAndHistoryIsNotWhole(t *testing.T) {
	t.Parallel()
	n := newNode(t, memory.Config{})
	p := events.Partition("u:1:2", 4)
	cursor := n.end(t)
	for i := range maxMissed + 1 {
		n.publish(t, said(2, 1, fmt.Sprint(i)))
	}
	end := n.end(t)
	n.keep(t, p, end[p]-1)
	s := n.resume(t, 1, cursor)
	require.True(t, s.GetRecovered())
	require.Equal(t, []int32{p}, s.GetIncomplete())
	require.Equal(t, cursor, s.GetCursor())
	require.Equal(t, end, s.GetEnd())
	require.Zero(t, s.count())
	require.True(t, s.known)

	owed := &millracev1.SyncRequest{User: 1, Resume: true, Cursor: cursor, Through: map[int32]int64{p: end[p]}}
	s = n.sync(t, owed)
	require.True(t, s.GetRecovered())
	require.Equal(t, []int32{p}, s.GetIncomplete())

	n.keepAll(t)
	require.False(t, n.sync(t, owed).GetRecovered())
	s = n.resume(t, 1, cursor)
	require.False(t, s.GetRecovered())
	require.Equal(t, end, s.GetCursor())
	require.Empty(t, s.GetIncomplete())
}

func TestSyncReachesAsFarAsPushNodesHadHandled(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t, said(1, 2, "a"))
	s := n.sync(t, &millracev1.SyncRequest{User: 1, Handled: map[int32]int64{2: 99, 7: 5, -1: 3}})
	want := n.end(t)
	want[2] = 99
	require.Equal(t, want, s.GetEnd())
}

func TestSyncThroughAnswersOnlyThosePartitions(t *testing.T) {
	n := newNode(t, memory.Config{})
	p, other := events.Partition("u:1:2", 4), events.Partition("u:1:6", 4)
	require.NotEqual(t, p, other)
	missed := n.publish(t, said(2, 1, "a"), said(2, 1, "b"), said(2, 1, "later"))
	n.publish(t, said(6, 1, "elsewhere"))
	n.keep(t, p, missed[0].Seq)
	s := n.sync(t, &millracev1.SyncRequest{
		User: 1, Resume: true, Cursor: map[int32]int64{p: 0, other: 0}, Through: map[int32]int64{p: missed[1].Seq},
	})
	require.True(t, s.GetRecovered())
	require.Equal(t, map[int32]int64{p: missed[1].Seq}, s.GetEnd())
	require.Equal(t, map[int32]int64{p: 0}, s.GetCursor())
	require.Equal(t, map[int32][]int64{p: seqs(missed[:2])}, s.got)
}

// Retention has emptied the log, so that it looks shorter than it was, and the store is down.
func TestSyncThroughIsIncompleteWhereTheLogHasBecomeShorter(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	n := newNodeOver(t, bus)
	missed := n.publish(t, said(2, 1, "a"), said(2, 1, "b"))
	n.keepAll(t)
	n.sync(t, &millracev1.SyncRequest{User: 1}) // its groups are remembered
	bus.Trim(events.TopicMessages, missed[1])
	n.store.down.Store(true)
	owed := &millracev1.SyncRequest{User: 1, Resume: true, Cursor: map[int32]int64{0: 0}, Through: map[int32]int64{0: missed[1].Seq}}
	require.Equal(t, []int32{0}, n.sync(t, owed).GetIncomplete())
	n.store.down.Store(false)
	eventually(t, func() bool {
		s := n.sync(t, owed)
		return len(s.GetIncomplete()) == 0 && len(s.got[0]) == 2
	})
}

func TestSyncIsRefused(t *testing.T) {
	n := newNode(t, memory.Config{})
	for name, r := range map[string]*millracev1.SyncRequest{
		"no user":              {},
		"through no partition": {User: 1, Through: map[int32]int64{4: 1}},
		"through less than 0":  {User: 1, Through: map[int32]int64{0: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := n.Sync(t.Context(), r)
			require.NoError(t, err)
			_, err = stream.Recv()
			requireCode(t, codes.InvalidArgument, err)
		})
	}
}

func TestRepeatIsDeliveredOnce(t *testing.T) {
	n := newNode(t, memory.Config{})
	p := events.Partition("u:1:2", 4)
	all := n.publish(t, said(2, 1, "a"), said(2, 1, "b"))
	n.keepAll(t)
	n.publish(t, said(2, 1, "a"), said(2, 1, "b"))
	s := n.resume(t, 1, map[int32]int64{p: 0})
	require.Equal(t, map[int32][]int64{p: seqs(all)}, s.got)
}

func TestReadMarksAndRecordsNobodyCanReadAreNotReplayed(t *testing.T) {
	n := newNode(t, memory.Config{})
	p := events.Partition("u:1:2", 4)
	first := n.publish(t, said(2, 1, "a"), events.Event{
		Type: events.MessageRead, Conversation: "u:1:2", User: 1, MessageSeq: 1, Timestamp: 5,
	})
	n.publishRaw(t, "u:1:2", "no JSON")
	n.publishRaw(t, "u:1:2", `{"type":"from_the_future","timestamp":1}`)
	n.publishRaw(t, elsewhere("u:1:2"), `{"type":"new_message","message":{"from":2,"to":1,"content":"x","message_type":1,"timestamp":5},"timestamp":5}`)
	last := n.publish(t, said(2, 1, "b"))
	s := n.resume(t, 1, map[int32]int64{0: 0, 1: 0, 2: 0, 3: 0})
	require.Equal(t, map[int32][]int64{p: {first[0].Seq, last[0].Seq}}, s.got)
}

func TestMembershipsAreThoseAtTheEndOfTheLog(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2), change(events.GroupCreated, 8, 1, 0, 1, 2))
	n.keepAll(t)
	later := n.publish(t, change(events.MemberLeft, 7, 2, 0), change(events.GroupCreated, 9, 2, 0, 2))
	r, err := n.Memberships(t.Context(), &millracev1.MembershipsRequest{User: 2})
	require.NoError(t, err)
	require.Len(t, r.GetMemberships(), 2)
	require.Equal(t, int64(8), r.GetMemberships()[0].GetGroupId())
	require.Equal(t, int64(9), r.GetMemberships()[1].GetGroupId())
	require.Equal(t, later[1].Seq, r.GetMemberships()[1].GetJoinedSeq())
}

// A user who joined after a message was sent does not get a repeat of it, however much of it is stored.
func TestSyncShowsNobodyARepeatOfWhatWasSaidBeforeJoining(t *testing.T) {
	for stored := range 6 {
		t.Run(fmt.Sprint(stored, " stored"), func(t *testing.T) {
			n := newNode(t, memory.Config{Partitions: 1})
			n.publish(t, change(events.GroupCreated, 7, 1, 0, 1))
			n.keepAll(t)
			cursor := n.end(t)
			all := n.publish(t,
				saidIn(7, 1, "before"),
				change(events.MemberJoined, 7, 2, 0),
				saidIn(7, 1, "before"),
				saidIn(7, 1, "seen"),
				saidIn(7, 1, "seen"),
			)
			if stored > 0 {
				n.keep(t, 0, all[stored-1].Seq)
			}
			require.Equal(t, []int64{all[1].Seq, all[3].Seq}, n.resume(t, 2, cursor).got[0])
			require.Equal(t, []int64{all[3].Seq}, n.resume(t, 2, map[int32]int64{0: all[1].Seq}).got[0])
		})
	}
}

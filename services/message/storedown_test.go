package message

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

func TestWhileTheStoreIsDownTheLogAloneServesWhoIsKnown(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2))
	n.keepAll(t)
	cursor := n.sync(t, &millracev1.SyncRequest{User: 2}).GetCursor()
	n.store.down.Store(true)
	missed := n.publish(t, said(1, 2, "a"), saidIn(7, 1, "b"), change(events.MemberLeft, 7, 2, 0))
	n.publish(t, saidIn(7, 1, "away"))
	created := n.publish(t, change(events.GroupCreated, 8, 1, 0, 1, 2), saidIn(8, 1, "c"))

	s := n.resume(t, 2, cursor)
	require.True(t, s.GetRecovered())
	require.Empty(t, s.GetIncomplete())
	require.Equal(t, append(seqs(missed), seqs(created)...), s.got[0])
	require.Equal(t, map[int64]int64{8: created[0].Seq}, s.groups)
	require.True(t, s.known)
}

func TestWhileTheStoreIsDownThePastOfAnEndedStayIsIncomplete(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2))
	n.keepAll(t)
	cursor := n.end(t)
	missed := n.publish(t, saidIn(7, 1, "seen"), change(events.MemberLeft, 7, 2, 0))
	n.keepAll(t)
	n.sync(t, &millracev1.SyncRequest{User: 2}) // the groups that are remembered are from after the leaving
	n.store.down.Store(true)
	s := n.resume(t, 2, cursor)
	require.True(t, s.GetRecovered())
	require.Equal(t, []int32{0}, s.GetIncomplete(), "the log does not say that the user was a member")
	require.Equal(t, cursor, s.GetCursor())
	require.Zero(t, s.count())

	n.store.down.Store(false)
	eventually(t, func() bool {
		s = n.sync(t, &millracev1.SyncRequest{User: 2, Resume: true, Cursor: cursor, Through: s.GetEnd()})
		return len(s.GetIncomplete()) == 0
	})
	require.Equal(t, seqs(missed), s.got[0], "the rest follows when the store is back")
}

func TestWhileTheStoreIsDownWhatMovedIsIncompleteForTheUnknown(t *testing.T) {
	n := newNode(t, memory.Config{})
	n.publish(t, said(1, 2, "a"))
	n.store.down.Store(true)
	p := events.Partition("u:1:2", 4)
	end := n.end(t)
	cursor := map[int32]int64{0: 0, 1: 0, 2: 0, 3: 0}
	s := n.resume(t, 2, cursor)
	require.True(t, s.GetRecovered())
	require.Equal(t, []int32{p}, s.GetIncomplete())
	require.Equal(t, cursor, s.GetCursor())
	require.Equal(t, end, s.GetEnd())
	require.False(t, s.known)

	s = n.sync(t, &millracev1.SyncRequest{User: 2})
	require.Equal(t, []int32{p}, s.GetIncomplete(), "what is not in history cannot be told from what is nobody's")
	_, err := n.Memberships(t.Context(), &millracev1.MembershipsRequest{User: 2})
	requireCode(t, codes.Unavailable, err)
}

func TestSyncGoesOnWithoutAStoreThatFailsHalfway(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	missed := n.publish(t, said(1, 2, "a"), said(1, 2, "b"))
	n.keepAll(t)
	n.sync(t, &millracev1.SyncRequest{User: 2})
	n.store.missedFails.Store(true)
	s := n.resume(t, 2, map[int32]int64{0: 0})
	require.Empty(t, s.GetIncomplete())
	require.Equal(t, seqs(missed), s.got[0])
}

// What the store said of the user's groups was newer than the stored positions that it said before: the user had left. When
// the store fails after that, nobody can say whether what the log has from before the leaving is the user's.
func TestSyncTrustsNoGroupsThatAreNewerThanTheirPositionsOnceTheStoreFails(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, said(1, 2, "a"), change(events.GroupCreated, 7, 1, 0, 1, 2))
	n.keepAll(t)
	before := n.end(t)
	n.publish(t, saidIn(7, 1, "seen"), change(events.MemberLeft, 7, 2, 0))
	n.keepAll(t)
	n.store.behind.Store(&before)
	n.store.missedFails.Store(true)
	s := n.resume(t, 2, map[int32]int64{0: 0})
	require.Equal(t, []int32{0}, s.GetIncomplete())
}

func TestSyncGoesOnWithoutAStoreThatHangs(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, said(1, 2, "a"))
	n.store.hangs.Store(true)
	s := n.resume(t, 2, map[int32]int64{0: 0})
	require.Equal(t, []int32{0}, s.GetIncomplete())
}

func TestFailedStoreIsLeftAloneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		calls := 0
		hang := func(ctx context.Context) error {
			calls++
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		for range 100 {
			require.ErrorIs(t, b.call(t.Context(), hang), errStoreDown)
		}
		require.Equal(t, storeTimeout, time.Since(began), "only the first waits")
		require.Equal(t, 1, calls)
		time.Sleep(storePause)
		require.NoError(t, b.call(t.Context(), func(context.Context) error { return nil }))

		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, b.call(impatient, hang), context.DeadlineExceeded)
		require.NoError(t, b.call(t.Context(), func(context.Context) error { return nil }), "that was not the store's fault")
	})
}

// flood fills the partition of u:1:2 with n records, quickly.
func flood(t *testing.T, n *node, from, records int) {
	t.Helper()
	for i := range records {
		n.publish(t, said(1, 2, fmt.Sprint(from+i)))
	}
}

func TestPartitionWhoseStorageLagsTooFarIsIncompleteAndTheOthersAreNot(t *testing.T) {
	n := newNode(t, memory.Config{})
	p, other := events.Partition("u:1:2", 4), events.Partition("u:1:6", 4)
	require.NotEqual(t, p, other)
	cursor := n.end(t)
	flood(t, n, 0, maxTail)
	missed := n.publish(t, said(6, 1, "elsewhere"))
	s := n.resume(t, 1, cursor)
	require.True(t, s.GetRecovered())
	require.Equal(t, []int32{p}, s.GetIncomplete())
	require.Equal(t, map[int32][]int64{other: seqs(missed)}, s.got)
	require.False(t, s.known, "groups may have changed in what could not be read")

	_, err := n.Memberships(t.Context(), &millracev1.MembershipsRequest{User: 1})
	requireCode(t, codes.Unavailable, err)
	n.keepAll(t)
	s = n.resume(t, 1, map[int32]int64{p: maxTail - 10})
	require.Empty(t, s.GetIncomplete())
	require.Equal(t, 10, s.count())
	require.True(t, s.known)
}

func TestPartitionThatHasLostItsBeginningIsIncompleteAndTheOthersAreNot(t *testing.T) {
	bus := memory.NewBus(memory.Config{})
	n := newNodeOver(t, bus)
	p, other := events.Partition("u:1:2", 4), events.Partition("u:1:6", 4)
	cursor := n.end(t)
	lost := n.publish(t, said(1, 2, "a"), said(1, 2, "b"), said(1, 2, "c"))
	missed := n.publish(t, said(6, 1, "elsewhere"))
	bus.Trim(events.TopicMessages, lost[1])
	for range 2 { // the second time it is remembered
		s := n.resume(t, 1, cursor)
		require.Equal(t, []int32{p}, s.GetIncomplete())
		require.Equal(t, map[int32][]int64{other: seqs(missed)}, s.got)
		require.False(t, s.known)
	}
	s := n.resume(t, 1, map[int32]int64{p: lost[1].Seq, other: 0})
	require.Equal(t, []int32{p}, s.GetIncomplete(), "groups cannot be followed from the stored position on")

	n.storing(t)
	eventually(t, func() bool { return n.sync(t, &millracev1.SyncRequest{User: 1}).known })
	s = n.resume(t, 1, map[int32]int64{p: lost[1].Seq, other: 0})
	require.Equal(t, map[int32][]int64{p: seqs(lost[2:]), other: seqs(missed)}, s.got)
}

// A poisoned record is never stored. When the log loses it, nothing is missing.
func TestPoisonedRecordThatTheLogHasLostHoldsUpNobody(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	n := newNodeOver(t, bus)
	n.storing(t)
	n.publish(t, said(1, 2, "a"))
	n.publishRaw(t, "u:1:2", "no JSON")
	eventually(t, func() bool {
		stored, err := n.db.Stored(t.Context())
		require.NoError(t, err)
		return stored[0] == 2
	})
	bus.Trim(events.TopicMessages, events.Position{Seq: 2})
	s := n.resume(t, 1, map[int32]int64{0: 0})
	require.Empty(t, s.GetIncomplete())
	require.Equal(t, map[int32][]int64{0: {1}}, s.got)
	require.True(t, s.known)
}

// The cursor lies after the last record that is left, and must not be taken for one of another log.
func TestCursorIsKnownAlsoWhenTheRecordsBeforeItAreGone(t *testing.T) {
	bus := memory.NewBus(memory.Config{Partitions: 1})
	n := newNodeOver(t, bus)
	last := n.publish(t, said(1, 2, "a"), said(1, 2, "b"))[1]
	n.keepAll(t)
	bus.Trim(events.TopicMessages, last)
	n.store.down.Store(true)
	s := n.resume(t, 1, map[int32]int64{0: last.Seq})
	require.True(t, s.GetRecovered())
	require.Equal(t, map[int32]int64{0: last.Seq}, s.GetCursor())
	s = n.resume(t, 1, map[int32]int64{0: last.Seq + 1})
	require.False(t, s.GetRecovered(), "the log never went so far")
}

func TestCursorOfAnEarlierEpochIsMadeGoodFromTheStore(t *testing.T) {
	old := newNode(t, memory.Config{})
	p := events.Partition("u:1:2", 4)
	before := old.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2), said(1, 2, "a"), said(1, 2, "b"))
	old.keepAll(t)

	n := newNodeWith(t, memory.NewBus(memory.Config{Epoch: 1}), old.db)
	s := n.resume(t, 1, map[int32]int64{p: before[1].Seq})
	require.Equal(t, map[int32][]int64{p: seqs(before[2:])}, s.got, "a new topic without records")
	require.True(t, s.known)

	after := n.publish(t, said(1, 2, "c"))
	s = n.resume(t, 1, map[int32]int64{p: before[1].Seq})
	require.Empty(t, s.GetIncomplete())
	require.Equal(t, map[int32][]int64{p: {before[2].Seq, after[0].Seq}}, s.got)
	require.Equal(t, map[int64]int64{7: before[0].Seq}, s.groups)
	require.True(t, s.known)

	n.store.down.Store(true)
	s = n.resume(t, 1, map[int32]int64{p: before[1].Seq})
	require.Equal(t, []int32{p}, s.GetIncomplete(), "only the store has the earlier epoch")
}

// Storage advances between reading the stored position and reading the groups.
func TestLeavingThatIsStoredMeanwhileHidesNothing(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2), change(events.GroupCreated, 8, 1, 0, 1))
	n.keepAll(t)
	cursor := n.end(t)
	n.publish(t, saidIn(7, 1, "seen"), change(events.MemberLeft, 7, 2, 0), change(events.GroupDissolved, 8, 1, 0))
	n.keepAll(t)
	n.store.behind.Store(&cursor)
	s := n.resume(t, 2, cursor)
	require.Equal(t, []int32{0}, s.GetIncomplete(), "asking again is better than leaving out what was seen")
	n.store.behind.Store(nil)
	require.Equal(t, 2, n.resume(t, 2, cursor).count())

	// The end of a stay that was known, and the leaving of other users, are no reason to be incomplete.
	none := map[int32]int64{0: 3}
	n.store.behind.Store(&none)
	s = n.resume(t, 3, cursor)
	require.Empty(t, s.GetIncomplete())
	require.Zero(t, s.count())
}

func TestJoiningAgainThatIsStoredMeanwhileHidesNothing(t *testing.T) {
	n := newNode(t, memory.Config{Partitions: 1})
	n.publish(t, change(events.GroupCreated, 7, 1, 0, 1, 2))
	n.keepAll(t)
	cursor := n.end(t)
	all := n.publish(t, saidIn(7, 1, "seen"), change(events.MemberLeft, 7, 2, 0), saidIn(7, 1, "away"),
		change(events.MemberJoined, 7, 2, 1), saidIn(7, 1, "seen again"))
	n.keepAll(t)
	n.store.behind.Store(&cursor)
	s := n.resume(t, 2, cursor)
	require.Equal(t, []int32{0}, s.GetIncomplete(), "the groups do not tell of the stay before")
	require.Equal(t, map[int64]int64{7: all[3].Seq}, s.groups)

	left := map[int32]int64{0: all[1].Seq}
	all = append(all, n.publish(t, change(events.MemberLeft, 7, 2, 1), change(events.MemberJoined, 7, 2, 2))...)
	n.keepAll(t)
	n.store.behind.Store(&left)
	s = n.resume(t, 2, left)
	require.Empty(t, s.GetIncomplete(), "the log tells of all that came after")
	require.Equal(t, []int64{all[3].Seq, all[4].Seq, all[5].Seq, all[6].Seq}, s.got[0])
}
